"""Asks the sites of a run: facts, work of a round, sums of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional, Protocol

import numpy as np

from tfl_research.errors import EvaluationUnavailable, UserError
from tfl_research.federation.asked_round import AskedRound, ReportSpec, Restarts
from tfl_research.federation.asking import Asking, Asks
from tfl_research.federation.facts import AllFacts, SiteFacts
from tfl_research.federation.secure_sums.terms import LEAST_PARTIES
from tfl_research.federation.wire import questions
from tfl_research.federation.wire.messages import Message, MessageError

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
        self._asking = Asking(exchange, start_deadline, say)
        self._names = names
        self._round_deadline = round_deadline
        self._say = say
        self._sums = sums
        self._site_of: dict[str, str] = {}
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
        answers = self._asking.all(dict.fromkeys(self._names, request))
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
        self._asking.begin(dict.fromkeys(facts.sites, Message("begin", header)))

    def restarted(self, restarts: Restarts) -> None:
        """Has the sites draw new noise for rounds that are repeated."""
        self._restarts = restarts

    def reports(self, asked: AskedRound) -> dict[str, list[np.ndarray]]:
        """The reports of a round's clients; see `engine.CollectsReports`."""
        requests = asked.requests(self._site_of, self._restarts)
        found: dict[str, list[np.ndarray]] = {}
        for site, answer in self._asking.in_time(requests, self._round_deadline):
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
            asked.number, requests, self._round_deadline, self._asking.in_time
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
            answers = self._asking.all(requests)
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
        message = Message("end", {"round": 0, "completed": 0})
        self._asking.tell(message, min(5.0, self._round_deadline))


def _all_finite(report: Sequence[np.ndarray]) -> bool:
    return all(np.all(np.isfinite(v)) for v in report if v.dtype.kind in "fc")
