"""A site answers its coordinator alone, keeps replies, and refuses damaged files."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct

import pytest
from fake_sites import RUN, Doubling, asked, request

from tfl_research.errors import UserError
from tfl_research.federation.site.site_requests import Requests
from tfl_research.federation.site.site_server import SiteServer
from tfl_research.federation.wire import questions
from tfl_research.federation.wire.authentication import Seal, opened, sealed
from tfl_research.federation.wire.messages import Message, decode, encode

KEY = b"n" * 32
_ONE, _TWO = request("nord", KEY, 1), request("nord", KEY, 2)


@pytest.fixture
def server(tmp_path):
    lines: list[str] = []
    made = SiteServer(
        tmp_path / "nord" / "site.sock", "nord", KEY, tmp_path / "nord", lines.append
    )
    made.lines = lines
    yield made
    made.close()


def _reply(content: bytes) -> Message:
    return decode(opened(content, KEY)[1])


class TestReplay:
    def test_a_repeated_request_gets_the_kept_reply(self, server):
        handler = Doubling()
        first = server.answer(request("nord", KEY, 5), handler)
        assert _reply(first).tensors["x"].tolist() == [0, 2, 4]
        assert server.answer(request("nord", KEY, 5), handler) == first
        assert len(handler.requests) == 1

    def test_an_old_request_is_refused(self, server):
        handler = Doubling()
        server.answer(request("nord", KEY, 5), handler)
        server.answer(request("nord", KEY, 6), handler)
        answer = server.answer(request("nord", KEY, 5), handler)
        assert b"request 5 of the run run1 is not new" in answer
        assert answer.startswith(b"tflunfit")
        assert len(handler.requests) == 2

    def test_other_bytes_of_the_same_number_are_refused(self, server):
        handler = Doubling()
        server.answer(request("nord", KEY, 5), handler)
        body = encode(Message("round", {"run": RUN, "round": 9, "completed": 8}))
        other = sealed(body, KEY, Seal(False, "nord", RUN, 5))
        assert b"is not new" in server.answer(other, handler)
        assert len(handler.requests) == 1

    def test_numbers_are_by_run(self, server):
        handler = Doubling()
        server.answer(request("nord", KEY, 5), handler)
        body = encode(Message("round", {"run": "run2", "round": 1, "completed": 0}))
        other = sealed(body, KEY, Seal(False, "nord", "run2", 1))
        assert _reply(server.answer(other, handler)).header["run"] == "run2"

    def test_many_runs_do_not_use_up_the_open_files(self, server):
        def ask(run, sequence):
            body = encode(Message("hello", {"run": run, "round": 0, "completed": 0}))
            content = sealed(body, KEY, Seal(False, "nord", run, sequence))
            return server.answer(content, Doubling())

        ask("run0", 2)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(1, 30):
            assert _reply(ask(f"run{number}", 1)).kind == "hello"
        assert len(os.listdir("/proc/self/fd")) <= before + 8
        # A run whose files were closed is remembered all the same.
        assert b"is not new" in ask("run0", 1)
        assert _reply(ask("run0", 3)).kind == "hello"

    def test_a_site_that_restarts_remembers(self, tmp_path):
        folder, handler = tmp_path / "nord", Doubling()

        def answers(*sequences):
            with contextlib.closing(
                SiteServer(folder / "site.sock", "nord", KEY, folder)
            ) as server:
                return [
                    server.answer(request("nord", KEY, n), handler) for n in sequences
                ]

        first, last = answers(5, 6)
        old, again, new = answers(5, 6, 7)
        assert b"request 5 of the run run1 is not new" in old
        assert again == last != first
        assert _reply(new).header["calls"] == 3


def _question(run, kind="hello"):
    body = encode(Message(kind, {"run": run, "round": 0, "completed": 0}))
    return sealed(body, KEY, Seal(False, "nord", run, 1))


class TestQuestions:
    """A question before a run leaves nothing at a site."""

    def test_no_files_are_made_and_a_repeated_question_gets_the_kept_reply(
        self, server
    ):
        handler, run = Doubling(), questions.new_id()
        before = _files(server._folder)
        first = server.answer(_question(run), handler)
        assert _reply(first).header["calls"] == 1
        assert server.answer(_question(run), handler) == first
        other = _reply(server.answer(_question(questions.new_id()), handler))
        assert other.header["calls"] == 2
        assert _files(server._folder) == before

    def test_a_site_that_was_killed_answers_again(self, tmp_path):
        folder, handler, run = tmp_path / "nord", Doubling(), questions.new_id()
        for calls in (1, 2):
            with contextlib.closing(
                SiteServer(folder / "site.sock", "nord", KEY, folder)
            ) as server:
                reply = _reply(server.answer(_question(run), handler))
                assert reply.header["calls"] == calls
        assert list((folder / "runs").iterdir()) == []

    @pytest.mark.parametrize("kind", ["begin", "round", "evaluate", "end"])
    def test_a_question_is_no_run(self, server, kind):
        handler, run = Doubling(), questions.new_id()
        reply = _reply(server.answer(_question(run, kind), handler))
        assert reply.kind == "refused"
        assert "is the id of a question" in reply.text("reason")
        assert handler.requests == []

    def test_folders_of_earlier_versions_go_and_those_of_runs_stay(self, tmp_path):
        folder = tmp_path / "nord"
        with contextlib.closing(
            SiteServer(folder / "site.sock", "nord", KEY, folder)
        ) as server:
            server.answer(request("nord", KEY, 5), Doubling())
        runs = folder / "runs"
        for name in ("requests", "reply", "reply.tmp", "ledger.jsonl"):
            old = runs / f"question-{name}"
            old.mkdir()
            (old / "requests").write_bytes(b"")
            (old / name).write_bytes(b"x")
        (runs / "question-empty").mkdir()
        (runs / "question-file").write_text("")
        (runs / "question-link").symlink_to(runs / RUN)
        before = _files(runs / RUN)
        with contextlib.closing(SiteServer(folder / "site.sock", "nord", KEY, folder)):
            left = {path.name for path in runs.iterdir()}
        kept = {RUN, "question-ledger.jsonl", "question-file", "question-link"}
        assert left == kept
        assert _files(runs / RUN) == before
        assert _files(runs / "question-ledger.jsonl").keys() == {
            "requests",
            "ledger.jsonl",
        }


def _files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestStrangers:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"site": "ost"}, b"for the site 'ost', but this site is 'nord'"),
            ({"is_reply": True}, b"sites get requests"),
            ({"answered": b"x" * 32}, b"sites get requests"),
            ({"run": "../x"}, b"the run's id is '../x'"),
            ({"run": "run2"}, None),
        ],
    )
    def test_messages_that_are_not_for_this_site(self, server, changes, words):
        handler = Doubling()
        answer = server.answer(request("nord", KEY, 1, **changes), handler)
        assert handler.requests == []
        if words is None:
            assert "for the run 'run1', but its seal is for 'run2'" in _reply(
                answer
            ).text("reason")
        else:
            assert words in answer
        assert not (server._folder / "runs" / "x").exists()

    @pytest.mark.parametrize(
        "content", [b"", b"x", bytes(300), b"tflseal1" + bytes(300)]
    )
    def test_garbage(self, server, content):
        handler = Doubling()
        assert server.answer(content, handler).startswith(b"tflunfit")
        assert len(server.lines) == 1
        assert handler.requests == []

    def test_an_altered_request(self, server):
        content = bytearray(request("nord", KEY, 1))
        content[-1] ^= 1
        handler = Doubling()
        assert b"altered" in server.answer(bytes(content), handler)
        # Its number is not used up.
        assert _reply(server.answer(request("nord", KEY, 1), handler)).kind == "round"

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"nonsense 1234", "begin with"),
            (encode(Message("round", {"run": RUN, "completed": 0})), "field 'round'"),
            (encode(Message("round", {"run": RUN, "round": 1})), "field 'completed'"),
            (encode(Message("round", {"round": 1, "completed": 0})), "field 'run'"),
        ],
    )
    def test_sealed_bodies_that_do_not_fit(self, server, body, words):
        content = sealed(body, KEY, Seal(False, "nord", RUN, 1))
        reply = _reply(server.answer(content, Doubling()))
        assert reply.kind == "refused"
        assert words in reply.text("reason")

    def test_another_user_is_refused(self, sites, monkeypatch):
        handler = sites.start("nord")
        uid = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
        assert sites.carrier().sites == ()
        monkeypatch.undo()
        assert sites.carrier().sites == ("nord",)
        assert handler.requests == []

    def test_a_connection_that_sends_slowly_holds_nobody_up(self, sites):
        sites.start("nord")
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(str(sites.socket("nord")))
        slow.send(b"\0\0\0")
        ((_, answer),) = sites.exchange().ask({"nord": asked()}, 5.0)
        assert isinstance(answer, Message)
        # The slow one is served all the same, frame after frame.
        for sequence in (1001, 1002):
            content = request("nord", sites.keys["nord"], sequence)
            frame = struct.pack(">Q", len(content)) + content
            slow.sendall(frame[3:] if sequence == 1001 else frame)
            (length,) = struct.unpack(">Q", slow.recv(8, socket.MSG_WAITALL))
            reply = slow.recv(length, socket.MSG_WAITALL)
            assert opened(reply, sites.keys["nord"])[0].sequence == sequence
        slow.close()


class TestFiles:
    def test_are_private(self, server):
        server.answer(request("nord", KEY, 1), Doubling())
        for path in [server._folder, *server._folder.rglob("*")]:
            expected = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == expected, path

    def test_a_folder_that_others_may_enter(self, tmp_path):
        (tmp_path / "nord").mkdir(mode=0o755)
        with pytest.raises(UserError, match=r"mode 0755.*chmod 700"):
            SiteServer(tmp_path / "nord/site.sock", "nord", KEY, tmp_path / "nord")

    def test_a_second_server(self, server):
        other = server._folder.parent / "other"
        with pytest.raises(UserError, match="another process listens at"):
            SiteServer(server._folder / "site.sock", "nord", KEY, other)

    def test_a_second_server_of_one_state(self, server, tmp_path):
        """It would take a request that the first one has answered."""
        path = tmp_path / "elsewhere" / "site.sock"
        for _ in range(2):
            with pytest.raises(UserError, match="another process serves a site from"):
                SiteServer(path, "nord", KEY, server._folder)

    def test_a_refused_server_leaves_no_lock(self, server, tmp_path):
        state = tmp_path / "other"
        with pytest.raises(UserError, match="another process listens at"):
            SiteServer(server._folder / "site.sock", "nord", KEY, state)
        SiteServer(state / "site.sock", "nord", KEY, state).close()
        SiteServer(state / "site.sock", "nord", KEY, state).close()

    def test_another_file_than_a_socket_stays(self, tmp_path):
        tmp_path.chmod(0o700)
        (tmp_path / "data.csv").write_text("rows")
        (tmp_path / "link.sock").symlink_to(tmp_path / "data.csv")
        (tmp_path / "folder").mkdir()
        for name in ("data.csv", "link.sock", "folder"):
            with pytest.raises(UserError, match="another file than a socket"):
                SiteServer(tmp_path / name, "nord", KEY, tmp_path / "state")
            assert (tmp_path / name).exists()
        assert (tmp_path / "data.csv").read_text() == "rows"

    def test_a_socket_that_a_killed_process_left(self, sites):
        sites.socket("nord").parent.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(sites.socket("nord")))
        sites.start("nord")
        ((_, answer),) = sites.exchange().ask({"nord": asked()}, 5.0)
        assert isinstance(answer, Message)

    def test_a_name_that_no_socket_can_have(self, tmp_path):
        tmp_path.chmod(0o700)
        for length in (81, 300):
            path = tmp_path / ("x" * length)
            with pytest.raises(UserError, match="more than 80 bytes; give a shorter"):
                SiteServer(path, "nord", KEY, tmp_path / "state")
        (tmp_path / "a.sock.lock").mkdir()
        with pytest.raises(UserError, match=r"cannot write .*a\.sock\.lock \(Is a dir"):
            SiteServer(tmp_path / "a.sock", "nord", KEY, tmp_path / "state")

    def test_a_path_that_is_longer_than_the_kernel_takes(self, sites):
        sites.folder = sites.folder / ("long" * 30)
        sites.start("nord")
        ((_, answer),) = sites.exchange().ask({"nord": asked()}, 5.0)
        assert isinstance(answer, Message)

    def test_a_line_that_a_kill_cut_off_does_not_count(self, tmp_path):
        folder = tmp_path / "run1"
        requests = Requests(folder, KEY)
        assert requests.taken(1, _ONE) is None
        requests.close()
        with open(folder / "requests", "a") as file:
            file.write("2 abc")
        requests = Requests(folder, KEY)
        assert requests.taken(2, _TWO) is None
        with pytest.raises(UserError, match="is not new"):
            requests.taken(1, _ONE)
        requests.close()
        expected = f"1 {_ONE[8:40].hex()}\n2 {_TWO[8:40].hex()}\n"
        assert (folder / "requests").read_text() == expected

    def test_a_damaged_file(self, tmp_path):
        folder = tmp_path / "run1"
        Requests(folder, KEY).close()
        (folder / "requests").write_text("1 xyz\n")
        with pytest.raises(UserError, match="is damaged"):
            Requests(folder, KEY)

    @pytest.mark.parametrize("content", [b"", b"tflseal1 cut off", None])
    def test_a_kept_reply_that_is_lost_is_made_again(self, tmp_path, content):
        requests = Requests(tmp_path / "run1", KEY)
        requests.taken(1, _ONE)
        requests.keep(sealed(b"reply", KEY, Seal(True, "nord", RUN, 1)))
        path = tmp_path / "run1" / "reply"
        path.unlink() if content is None else path.write_bytes(content)
        assert requests.taken(1, _ONE) is None
        requests.close()

    def test_a_reply_that_cannot_be_kept_goes_out(self, server, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Requests, "keep", full)
        handler = Doubling()
        for calls in (1, 2):
            reply = _reply(server.answer(request("nord", KEY, 1), handler))
            assert reply.header["calls"] == calls
        assert "if the request comes again, the site computes again" in server.lines[0]

    def test_a_full_disk_takes_no_request(self, tmp_path, monkeypatch):
        requests = Requests(tmp_path / "run1", KEY)
        real = os.write
        monkeypatch.setattr(os, "write", lambda file, line: real(file, line[:7]))
        with pytest.raises(UserError, match="No space left"):
            requests.taken(1, _ONE)
        monkeypatch.undo()
        assert (tmp_path / "run1" / "requests").read_bytes() == b""
        assert requests.taken(1, _ONE) is None
        requests.close()
