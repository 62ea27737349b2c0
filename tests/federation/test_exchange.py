"""A coordinator takes only what answers its question, and says why."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest
from fake_sites import RUN, Altering, Doubling, asked

from tfl_research.errors import UserError
from tfl_research.federation.sites import Sites as CoordinatorsSites
from tfl_research.federation.wire import authentication
from tfl_research.federation.wire.authentication import Seal, sealed
from tfl_research.federation.wire.exchange import Refusal
from tfl_research.federation.wire.handler import Refused
from tfl_research.federation.wire.messages import Message, MessageError, encode
from tfl_research.federation.wire.sockets import Listener, connected


def _only(exchange, site="nord", message=None, seconds=5.0, **options):
    ((name, answer),) = exchange.ask({site: message or asked()}, seconds, **options)
    assert name == site
    return answer


class _By:
    """A handler that is a function."""

    def __init__(self, handle):
        self.handle = handle


class TestAnswers:
    def test_of_several_sites(self, sites):
        handlers = {name: sites.start(name) for name in ("nord", "west", "ost")}
        requests = {name: asked(size=n) for n, name in enumerate(handlers, 2)}
        answers = dict(sites.exchange().ask(requests, 5.0))
        assert set(answers) == set(handlers)
        for n, name in enumerate(handlers, 2):
            assert answers[name].tensors["x"].tolist() == [2.0 * i for i in range(n)]
            assert answers[name].header == {"calls": 1, "run": RUN, "round": 1}
            assert handlers[name].requests[0].header["run"] == RUN
        assert sites.lines == []

    def test_of_many_megabytes(self, sites):
        sites.start("nord")
        answer = _only(sites.exchange(), message=asked(size=5_000_000))
        assert answer.tensors["x"][-1] == 2.0 * 4_999_999

    def test_the_caller_may_stop_early(self, sites):
        free = threading.Event()

        def late(request):
            free.wait(10)
            return Message(request.kind)

        sites.start("nord")
        sites.start("ost", _By(late))
        exchange = sites.exchange()
        answers = exchange.ask({"ost": asked(), "nord": asked()}, 10.0)
        assert next(answers)[0] == "nord"
        answers.close()
        free.set()
        assert _only(exchange, "ost", asked(2)).integer("round") == 2

    def test_requests_that_do_not_fit(self, sites):
        sites.start("nord")
        with pytest.raises(
            ValueError, match="'west' has no key; the sites with keys are nord"
        ):
            next(sites.exchange().ask({"west": asked()}, 1.0))
        with pytest.raises(MessageError, match="no field 'round'"):
            next(sites.exchange().ask({"nord": Message("round")}, 1.0))


class TestRefusals:
    def test_of_the_site_are_printed_at_both_ends(self, sites):
        def handle(request):
            raise Refused("least_noise_multiplier=1.0, the run has 0.5")

        sites.start("nord", _By(handle))
        answer = _only(sites.exchange(), message=asked(4))
        reason = "least_noise_multiplier=1.0, the run has 0.5"
        assert answer == Refusal("nord", reason, "refused")
        assert sites.lines == [f"site nord, round of round 4: refused: {reason}"]
        assert sites.site_lines["nord"] == [f"refused 'round' of round 4: {reason}"]

    def test_an_exception_stays_at_the_site(self, sites):
        def handle(request):
            raise KeyError("patient 17")

        sites.start("nord", _By(handle))
        answer = _only(sites.exchange())
        assert answer.kind == "failed"
        assert answer.reason == "KeyError; the site's errors.log has the details"
        log = sites.folder / "nord" / "errors.log"
        assert "patient 17" in log.read_text()
        assert log.stat().st_mode & 0o777 == 0o600
        assert "patient 17" in sites.site_lines["nord"][0]

    def test_a_reply_that_is_no_message(self, sites):
        sites.start("nord", _By(lambda request: Message("round", {"x": (1,)})))
        assert "header.x is a tuple" in _only(sites.exchange()).reason

    def test_a_handler_of_another_kind(self, sites):
        sites.start("nord", _By(lambda request: Message("evaluate")))
        assert _only(sites.exchange()).reason.startswith("TypeError")

    def test_a_request_that_does_not_fit(self, sites):
        sites.start("nord", _By(lambda request: request.tensor("y")))
        assert _only(sites.exchange()) == Refusal(
            "nord", "the message 'round' has no tensor 'y'", "refused"
        )

    def test_a_wrong_shape(self, sites):
        sites.start("nord")

        def check(site, reply):
            reply.tensor("x", shape=[4])

        answer = _only(sites.exchange(), check=check)
        assert answer.kind == "wrong"
        assert "shape [3], expected [4]" in answer.reason
        assert "shape [3], expected [4]" in sites.lines[0]

    def test_a_site_that_is_not_there(self, sites):
        sites.start("nord")
        exchange = sites.exchange(sites.carrier("west"), keys={"west": bytes(32)})
        answers = dict(exchange.ask({"west": asked(), "nord": asked()}, 5.0))
        assert answers["west"] == Refusal("west", "cannot be reached", "unreached")
        assert isinstance(answers["nord"], Message)
        assert exchange.carrier.sites == ("nord",)

    def test_a_site_that_is_not_there_until_the_time_is_over(self, sites):
        exchange = sites.exchange(
            sites.carrier("west", patience=9.0), keys={"west": bytes(32)}
        )
        answer = _only(exchange, "west", seconds=0.2)
        assert answer == Refusal("west", "cannot be reached", "unreached")

    def test_a_site_before_which_many_wait(self, sites):
        """The site listens, and imports TensorFlow before it serves."""
        sites.keys["nord"] = bytes(32)
        listener = Listener(sites.socket("nord"), 1000)
        waiting = []
        with contextlib.closing(listener):
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):
                    waiting.append(connected(sites.socket("nord"), "nord", 1000))
            carrier = sites.carrier(patience=0.1)
            assert carrier.sites == ("nord",)
            answer = _only(sites.exchange(carrier), seconds=0.5)
            assert answer.kind == "silent"
        for connection in waiting:
            connection.close()

    def test_a_late_answer(self, sites):
        free = threading.Event()

        def handle(request):
            free.wait(10)
            return Message(request.kind, {"for": request.header["round"]})

        sites.start("nord", _By(handle))
        exchange = sites.exchange()
        assert _only(exchange, seconds=0.2) == Refusal(
            "nord", "no answer within 0.2 s", "silent"
        )
        free.set()
        # The next answer is the next round's, and not the late one.
        assert _only(exchange, message=asked(2)).header["for"] == 2

    def test_a_too_large_reply(self, sites):
        sites.start("nord")
        answer = _only(
            sites.exchange(sites.carrier(limit_bytes=1000)), message=asked(size=1000)
        )
        assert answer.kind == "wrong"
        assert "above the limit of 1000" in answer.reason

    def test_a_too_large_request(self, sites):
        handler = sites.start("nord", limit_bytes=1000)
        answer = _only(sites.exchange(), message=asked(size=1_000_000))
        assert answer.kind == "wrong"
        assert "above the limit of 1000" in answer.reason
        assert "above the limit of 1000" in sites.site_lines["nord"][0]
        assert handler.requests == []
        # The site serves on.
        assert isinstance(_only(sites.exchange()), Message)

    def test_another_key(self, sites):
        handler = sites.start("nord")
        answer = _only(sites.exchange(keys={"nord": bytes(32)}))
        assert answer.kind == "wrong"
        assert "sealed by another key" in answer.reason
        assert "sealed by another key" in sites.site_lines["nord"][0]
        assert handler.requests == []


def _flipped(reply: bytes) -> bytes:
    return reply[:-1] + bytes([reply[-1] ^ 1])


class TestCarriersThatCheat:
    def test_an_altered_reply_is_dropped_and_asked_for_again(self, sites):
        handler = sites.start("nord")
        carrier = Altering(
            sites.carrier(), lambda site, reply, n: _flipped(reply) if n == 1 else reply
        )
        answer = _only(sites.exchange(carrier))
        assert answer.tensors["x"].tolist() == [0, 2, 4]
        # The same bytes were sent twice, and the site computed once.
        assert carrier.sent[0] == carrier.sent[1]
        assert len(handler.requests) == 1
        assert "the message was altered" in sites.lines[0]
        assert "came again" in sites.site_lines["nord"][0]

    def test_a_reply_that_is_always_altered(self, sites):
        sites.start("nord")
        carrier = Altering(sites.carrier(), lambda site, reply, n: _flipped(reply))
        answer = _only(sites.exchange(carrier))
        assert answer.kind == "wrong"
        assert "altered" in answer.reason
        assert len(carrier.sent) == 3

    def test_a_lost_reply_is_silence(self, sites):
        sites.start("nord")
        carrier = Altering(sites.carrier(), lambda site, reply, n: None)
        assert _only(sites.exchange(carrier), seconds=0.2).kind == "silent"

    def test_a_reply_that_comes_twice(self, sites):
        sites.start("nord")
        carrier = Altering(sites.carrier(), lambda site, reply, n: [reply, reply])
        assert isinstance(_only(sites.exchange(carrier)), Message)
        assert sites.lines == [
            "site 'nord' answers twice, or without a request: dropped"
        ]

    def test_the_reply_of_an_earlier_request(self, sites):
        sites.start("nord")
        kept = []

        def replay(site, reply, n):
            kept.append(reply)
            return kept[0]

        exchange = sites.exchange(Altering(sites.carrier(), replay))
        assert isinstance(_only(exchange), Message)
        answer = _only(exchange, message=asked(2))
        assert answer.kind == "wrong"
        assert "not the reply to request 2 of the run run1 to nord" in answer.reason

    def test_the_request_itself(self, sites):
        sites.start("nord")
        carrier = Altering(sites.carrier(), lambda site, reply, n: sent(n))

        def sent(n):
            return carrier.sent[n - 1]["nord"]

        assert "but a request 1" in _only(sites.exchange(carrier)).reason

    def test_the_reply_of_another_site(self, sites):
        sites.start("nord")
        sites.start("ost")
        replies = {}

        def swap(site, reply, n):
            replies[site] = reply
            return replies.get("ost")

        exchange = sites.exchange(Altering(sites.carrier(), swap))
        assert isinstance(_only(exchange, "ost"), Message)
        assert "altered, or was sealed by another key" in _only(exchange, "nord").reason

    @pytest.mark.parametrize("garbage", [b"x", b"\0" * 200, b"tflseal1" + bytes(200)])
    def test_garbage(self, sites, garbage):
        sites.start("nord")
        carrier = Altering(sites.carrier(), lambda site, reply, n: garbage)
        assert _only(sites.exchange(carrier)).kind == "wrong"


class TestSitesThatErr:
    """Sealed by the site's key, and still not what was asked."""

    @pytest.mark.parametrize(
        ("changes", "kind", "words"),
        [
            ({"round": 2}, "round", "for round 2, but round 1 was asked for"),
            ({"run": "other"}, "round", "of the run 'other'"),
            ({}, "evaluate", "of the kind 'evaluate', but 'round' was asked for"),
            ({"round": None}, "round", "expected a whole number"),
        ],
    )
    def test_replies_to_another_question(self, sites, changes, kind, words):
        sites.start("nord")
        message = Message(kind, {"run": RUN, "round": 1, **changes})
        assert words in self._answered(sites, encode(message)).reason

    def test_a_reply_that_is_no_message(self, sites):
        sites.start("nord")
        assert "begin with" in self._answered(sites, b"nonsense 1234").reason

    @staticmethod
    def _answered(sites, body):
        def change(site, reply, n):
            mac = authentication.mac_of(carrier.sent[n - 1][site])
            return sealed(body, sites.keys[site], Seal(True, site, RUN, n, mac))

        carrier = Altering(sites.carrier(), change)
        answer = _only(sites.exchange(carrier))
        assert answer.kind == "wrong"
        assert len(carrier.sent) == 1
        return answer


class TestSequence:
    def test_goes_on_after_the_coordinator_was_killed(self, sites):
        handler = sites.start("nord")
        first = sites.exchange()
        for number in (1, 2, 3):
            assert isinstance(_only(first, message=asked(number)), Message)
        assert (sites.folder / "sequence").read_text() == "1000\n"
        # Another object reads the file, as a new process does.
        second = sites.exchange()
        assert isinstance(_only(second, message=asked(3)), Message)
        assert len(handler.requests) == 4
        assert (sites.folder / "sequence").read_text() == "2000\n"
        # What the first one would still send is old now.
        assert "is not new" in _only(first, message=asked(3)).reason
        assert len(handler.requests) == 4

    def test_a_lost_file_is_noticed(self, sites):
        handler = sites.start("nord")
        _only(sites.exchange())
        (sites.folder / "sequence").unlink()
        answer = _only(sites.exchange(), message=asked(2))
        assert answer.kind == "wrong"
        assert "lost its file of sequence numbers" in answer.reason
        assert len(handler.requests) == 1

    def test_a_damaged_file(self, sites):
        (sites.folder / "sequence").write_text("12")
        with pytest.raises(UserError, match="is damaged"):
            sites.exchange()


def test_a_site_that_ends_and_comes_back_within_the_time(sites):
    """The exchange sends the same bytes to the new process."""
    sites.start("nord")
    exchange = sites.exchange(sites.carrier(patience=5.0))
    sites.stop("nord")
    handler = Doubling()
    timer = threading.Timer(0.3, lambda: sites.start("nord", handler))
    timer.start()
    assert isinstance(_only(exchange), Message)
    timer.join()
    assert len(handler.requests) == 1
    assert np.array_equal(handler.requests[0].tensors["x"], asked().tensors["x"])


def test_a_site_that_dies_while_a_run_begins():
    """The error says what to do, as for a site that was never there."""

    class Away:
        def ask(self, requests, seconds):
            del seconds
            for site in requests:
                yield site, Refusal(site, "cannot be reached", "unreached")

    sites = CoordinatorsSites(
        Away(), ["west"], round_deadline=1.0, start_deadline=1.0, say=print
    )
    message = "site west: cannot be reached; start it with scripts/site --config"
    with pytest.raises(UserError, match=message):
        sites.facts({}, {})
