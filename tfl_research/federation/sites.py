"""Asks the sites of a run: facts, work of a round, sums of an evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional, Protocol, Union

import numpy as np

from tfl_research.errors import EvaluationUnavailable, UserError
from tfl_research.federation.asked_round import AskedRound, ReportSpec, Restarts
from tfl_research.federation.facts import AllFacts, SiteFacts
from tfl_research.federation.secure_sums.terms import LEAST_PARTIES
from tfl_research.federation.wire import questions
from tfl_research.federation.wire.messages import Message, MessageError


class Refusal(Protocol):
    """A site's answer that it refuses the request."""

    @property
    def site(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def kind(self) -> str: ...


class Asks(Protocol):
    """Sends requests to sites; see `exchange.Exchange`."""

    def ask(
        self, requests: Mapping[str, Message], seconds: float
    ) -> Iterator[tuple[str, Union[Message, Refusal]]]:
        """Sends a request to each site; yields the answers as they come."""
        ...


# The function by which steps of a secure sum send requests to sites.
AskSites = Callable[[Mapping[str, Message], float], Iterator[tuple[str, Message]]]


class SumsOfSites(Protocol):
    """Makes secure sums over sites; see `summing.SecureSums`."""

    def run(
        self,
        round_number: int,
        requests: Mapping[str, Message],
        seconds: float,
        ask: AskSites,
    ) -> Optional[tuple[tuple[str, ...], list[np.ndarray]]]:
        """The sites that are in the sum, and the sum; None if it is abandoned."""
        ...


class Sites:
    """The sites of one run, as the coordinator sees them.

    Args:
      exchange: sends the requests.
      names: the names of all sites of the federation.
      round_deadline: seconds that a site has for a round.
      start_deadline: seconds that a site has to read its data or to build the process.
      say: prints a line for the user.
      sums: makes secure sums; None for a run without.
      tells_values: whether printed lines may show values that clients report; False in
        a private run.
    """

    def __init__(
        self,
        exchange: Asks,
        names: Sequence[str],
        *,
        round_deadline: float,
        start_deadline: float,
        say: Callable[[str], None],
        sums: Optional[SumsOfSites] = None,
        tells_values: bool = False,
    ):
        self._tells_values = tells_values
        self._exchange = exchange
        self._names = names
        self._round_deadline = round_deadline
        self._start_deadline = start_deadline
        self._say = say
        self._sums = sums
        self._site_of: dict[str, str] = {}
        self._begin: dict[str, Message] = {}
        self._specs: Sequence[ReportSpec] = ()
        self._restarts = Restarts()

    def facts(
        self, experiment: Mapping[str, Any], digests: Mapping[str, str]
    ) -> AllFacts:
        """Asks every site for its clients and the form of their data.

        Args:
          experiment: the experiment's flat settings, without this machine's paths.
          digests: digests of the coordinator's code, by name.

        Raises:
          UserError: a site refuses or does not answer, or the sites' data differ in
            form.
        """
        header = {
            **digests,
            "round": 0,
            "completed": 0,
            "experiment": dict(experiment),
        }
        request = Message(questions.KIND, header)
        answers = self._all(dict.fromkeys(self._names, request))
        return AllFacts(
            {site: SiteFacts.of(site, answers[site].header) for site in answers}
        )

    def begin(
        self,
        experiment: Mapping[str, Any],
        facts: AllFacts,
        *,
        compiler: str,
        digests: Mapping[str, str],
        specs: Sequence[ReportSpec],
    ) -> None:
        """Has every site build the process, and compares the computations.

        Args:
          experiment: the experiment's flat settings, without this machine's paths.
          facts: the facts of all sites.
          compiler: the compiler of the clients' work.
          digests: the digests of the coordinator's computation.
          specs: the specs of the tensors of a report.

        Raises:
          UserError: a site refuses, does not answer or has another computation.
        """
        self._site_of = facts.site_of
        self._specs = specs
        header = {
            "round": 0,
            "completed": 0,
            "experiment": dict(experiment),
            "sites": facts.header(),
            "compiler": compiler,
            "digests": dict(digests),
        }
        self._begin = dict.fromkeys(facts.sites, Message("begin", header))
        self._all(self._begin)

    def restarted(self, restarts: Restarts) -> None:
        """Has the sites draw new noise for rounds that are repeated."""
        self._restarts = restarts

    def reports(self, asked: AskedRound) -> dict[str, list[np.ndarray]]:
        """The reports of a round's clients; see `engine.CollectsReports`."""
        requests = asked.requests(self._site_of, self._restarts)
        found: dict[str, list[np.ndarray]] = {}
        for site, answer in self._answers(requests, self._round_deadline):
            own = requests[site].texts("clients")
            try:
                reports = self._reports_of(own, answer)
            except MessageError as error:
                self._say(f"round {asked.number}: site {site}: {error}; left out")
                continue
            found.update(reports)
            for client_id in own:
                # Clients drop updates that are not finite. So numbers that are not
                # finite are metrics, or come from another program.
                if self._tells_values and not _all_finite(reports[client_id]):
                    self._say(
                        f"round {asked.number}: site {site}: client {client_id!r} "
                        "reports numbers that are not finite"
                    )
        return found

    def summed(self, asked: AskedRound) -> tuple[tuple[str, ...], Sequence[np.ndarray]]:
        """The secure sum of what the clients report; see `engine.CollectsReports`."""
        if self._sums is None:
            raise TypeError("the run has no secure sums")
        requests = asked.requests(self._site_of, self._restarts)
        names = list(requests)
        if len(names) < LEAST_PARTIES:
            self._say(
                f"round {asked.number}: {len(names)} sites have a client in the "
                f"cohort, but a secure sum needs {LEAST_PARTIES}"
            )
            return (), ()
        done = self._sums.run(
            asked.number, requests, self._round_deadline, self._answers
        )
        if done is None:
            return (), ()
        survivors, sums = done
        own = {site: requests[site].texts("clients") for site in survivors}
        who = {i for clients in own.values() for i in clients}
        values = iter(sums)
        report = [
            next(values) if spec.modulus else spec.zeros() for spec in self._specs
        ]
        return tuple(i for i in asked.client_ids if i in who), report

    def _reports_of(
        self, client_ids: Sequence[str], answer: Message
    ) -> dict[str, list[np.ndarray]]:
        return {
            client_id: [
                spec.zeros()
                if spec.kept
                else answer.tensor(f"{place}/{n}", dtype=spec.dtype, shape=spec.shape)
                for n, spec in enumerate(self._specs)
            ]
            for place, client_id in enumerate(client_ids)
        }

    def evaluations(
        self, requests: Mapping[str, Message]
    ) -> Iterator[tuple[str, Message]]:
        """Has sites evaluate a model; yields their answers in the requests' order.

        Raises:
          EvaluationUnavailable: a site refuses or does not answer.
        """
        try:
            answers = self._all(requests)
        except UserError as error:
            raise EvaluationUnavailable(error.for_command_line) from error
        for site, answer in answers.items():
            # Metrics of all examples of a client, such as the AUC, may be undefined.
            sums = [v for n, v in answer.tensors.items() if not n.startswith("each/")]
            if self._tells_values and not _all_finite(sums):
                self._say(
                    f"evaluation: site {site} sends numbers that are not finite: the "
                    "model diverges on its examples, or the site sends wrong numbers"
                )
            yield site, answer

    def end(self) -> None:
        """Tells the sites that the run is over; does not wait for absent sites.

        A site that does not get the message keeps the run's state, but still answers
        other runs.
        """
        requests = dict.fromkeys(
            self._begin, Message("end", {"round": 0, "completed": 0})
        )
        for _ in self._exchange.ask(requests, min(5.0, self._round_deadline)):
            pass

    def _answers(
        self, requests: Mapping[str, Message], seconds: float
    ) -> Iterator[tuple[str, Message]]:
        """The answers that come in time; prints refusals and leaves them out.

        A site that was started again since the run began no longer has the process. It
        gets the request to begin again, and then the same request, within the remaining
        time. A site that needs longer is ready in a later round.
        """
        end = time.monotonic() + seconds
        forgotten: dict[str, Message] = {}
        for site, answer in self._exchange.ask(requests, seconds):
            if not isinstance(answer, Message):
                self._say(_told(site, answer))
            elif answer.header.get("forgotten"):
                forgotten[site] = requests[site]
            else:
                yield site, answer
        again: dict[str, Message] = {}
        for site, request in forgotten.items():
            try:
                self._all({site: self._begin[site]}, _left(end))
            except UserError as error:
                self._say(error.for_command_line)
                continue
            again[site] = request
        if again:
            for site, answer in self._exchange.ask(again, _left(end)):
                if isinstance(answer, Message):
                    yield site, answer
                else:
                    self._say(_told(site, answer))

    def _all(
        self, requests: Mapping[str, Message], seconds: Optional[float] = None
    ) -> dict[str, Message]:
        """The answers of all sites that were asked, in the order of the requests.

        Args:
          requests: the requests by site.
          seconds: how long to wait; by default the start's deadline.

        Raises:
          UserError: a site refuses, or does not answer in time.
        """
        if seconds is None:
            seconds = self._start_deadline
        found = dict(self._answered(requests, seconds))
        missing = [site for site in requests if site not in found]
        if missing:
            raise UserError(
                f"site {', '.join(missing)}: no answer within {seconds:g} s; start it "
                "with scripts/site --config=site.toml, then give the same command "
                "again"
            )
        return {site: found[site] for site in requests}

    def _answered(
        self,
        requests: Mapping[str, Message],
        seconds: float,
        again: Sequence[str] = (),
    ) -> Iterator[tuple[str, Message]]:
        """Yields the answers as they come; see `_all`.

        Args:
          requests: the requests by site.
          seconds: how long to wait.
          again: sites that have just begun the run again.

        Raises:
          UserError: a site refuses, or forgets the run at once.
        """
        for site, answer in self._exchange.ask(requests, seconds):
            if not isinstance(answer, Message):
                fix = ""
                if answer.kind == "unreached":
                    fix = "; start it with scripts/site --config=site.toml"
                raise UserError(f"{_told(site, answer)}{fix}")
            if answer.header.get("forgotten"):
                request = self._begin.get(site)
                if request is None or requests[site] is request:
                    raise UserError(
                        f"site {site}: has forgotten the run; give the same command "
                        "again"
                    )
                if site in again:
                    raise UserError(
                        f"site {site}: has forgotten the run again, right after it "
                        "began; a site keeps the latest runs only, so let other runs "
                        "end, then give the same command again"
                    )
                self._all({site: request})
                repeated = {site: requests[site]}
                yield from self._answered(repeated, seconds, again=(site,))
            else:
                yield site, answer


def _all_finite(report: Sequence[np.ndarray]) -> bool:
    return all(np.all(np.isfinite(v)) for v in report if v.dtype.kind in "fc")


def _left(end: float) -> float:
    """Seconds until `end`; at least one, so that a site that is ready can answer."""
    return max(1.0, end - time.monotonic())


def _told(site: str, refusal: Refusal) -> str:
    """Says in a line why a site has no answer."""
    verb = {"refused": " refuses", "failed": " failed"}.get(refusal.kind, "")
    return f"site {site}{verb}: {refusal.reason}"
