"""Secure sums of a round over the sites, step by step, at the coordinator.

Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", CCS, Figure 4. `secure_sums` has the cryptography. This module asks the sites
for the steps, and keeps what a restart needs.
"""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

import numpy as np

from tfl_research.errors import UserError
from tfl_research.federation.secure_sums import (
    Collector,
    SecureSumError,
    SumAbandonedError,
    SumTerms,
    VectorSpec,
    default_threshold,
    session_of,
)
from tfl_research.federation.sites import AskSites
from tfl_research.federation.wire.messages import Message
from tfl_research.storage.files import atomic

# Kinds of the requests of the steps. The answer to the kind "round" has the keys.
SHARES, MASKED, UNMASK = "secure_shares", "secure_masked", "secure_unmask"
# How often a sum is begun if wrong shares do not open it.
_TRIES = 2


class SecureSums:
    """Makes the secure sums of one run.

    The survivors of a round are kept before any site is asked to unmask them. If the
    coordinator is then killed, the repeated round opens the sum of the same sites. A
    site refuses another set, since the difference of two sums would show its vector.

    Args:
      run: the run's id.
      vectors: the forms of the tensors that are summed.
      folder: the folder of the run; keeps attempts and survivors.
      say: prints a line for the user.
      least_clients: a sum of fewer clients is not opened, since their parts of the
        noise are less than what is charged.
      noised: whether the vectors have noise of the sites, which is new after a restart.
        Then a repeated round may have other survivors.

    Attributes:
      restarts: number of restarts of the run with new noise.
    """

    def __init__(
        self,
        run: str,
        vectors: Sequence[VectorSpec],
        folder: pathlib.Path,
        say: Callable[[str], None],
        least_clients: int = 1,
        noised: bool = False,
    ):
        self.restarts = 0
        self._noised = noised
        self._least_clients = least_clients
        self._run = run
        self._vectors = tuple(vectors)
        self._path = folder / "secure_sum.json"
        self._say = say

    def run(
        self,
        round_number: int,
        requests: Mapping[str, Message],
        seconds: float,
        ask: AskSites,
    ) -> Optional[tuple[tuple[str, ...], list[np.ndarray]]]:
        """The sum over the sites of a round.

        Args:
          round_number: the number of the round, from 1.
          requests: the requests for the round's work, by site.
          seconds: the time for all steps together. Each step except the last gets half
            of the remaining time, so that a silent site does not use up the time of the
            other sites.
          ask: asks sites; it drops answers that do not fit or come too late.

        Returns:
          The sites that are in the sum, and the sum of each vector; None if too few
          sites answered, or the sum cannot be opened.
        """
        end = time.monotonic() + seconds
        for _ in range(_TRIES):
            try:
                return self._opened(round_number, requests, end, ask)
            except SumAbandonedError as error:
                self._say(f"round {round_number}: {error}")
                break
            except SecureSumError as error:
                # A site sent wrong shares and dropped out. The next attempt is for
                # the survivors alone.
                self._say(f"round {round_number}: {error}")
        return None

    def _opened(
        self,
        round_number: int,
        requests: Mapping[str, Message],
        end: float,
        ask: AskSites,
    ) -> Optional[tuple[tuple[str, ...], list[np.ndarray]]]:
        """Makes one attempt at a sum, until a time; see `run`.

        Raises:
          SumAbandonedError: too few sites answered.
          SecureSumError: the sites' shares do not open the sum.
        """
        names = tuple(requests)
        attempt, only = self._next_attempt(round_number)
        terms = SumTerms(
            session_of(self._run, round_number, attempt),
            names,
            default_threshold(len(names)),
            self._vectors,
        )
        collector = Collector(terms)
        sum_of = {"attempt": attempt, "terms": terms.as_json()}

        def asked(
            messages: Mapping[str, Message],
            add: Callable[[str, Any], None],
            share: float = 0.5,
        ) -> None:
            left = share * (end - time.monotonic())
            for site, answer in ask(messages, max(1.0, left)):
                try:
                    add(site, answer.tensors)
                except SecureSumError as error:
                    self._say(f"round {round_number}: site {site}: {error}; left out")

        def step(kind: str, tensors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
            header = {
                "round": round_number,
                "completed": round_number - 1,
                "attempt": attempt,
            }
            return {site: Message(kind, header, t) for site, t in tensors.items()}

        first = {
            site: Message(m.kind, {**m.header, "sum": sum_of}, m.tensors)
            for site, m in requests.items()
            if only is None or site in only
        }
        asked(first, collector.add_keys)
        keys = collector.key_list()
        present = collector.answered["keys"]
        asked(step(SHARES, dict.fromkeys(present, keys)), collector.add_shares)
        asked(step(MASKED, collector.shares()), collector.add_masked)
        survivors = collector.survivors()
        present = collector.answered["masked"]
        there = sum(len(requests[site].texts("clients")) for site in present)
        if there < self._least_clients:
            self._say(
                f"round {round_number}: {there} clients have less noise together "
                f"than the noise of {self._least_clients} clients, which is "
                "charged; the sum is not opened"
            )
            return None
        self._keep(round_number, attempt, present)
        asked(
            step(UNMASK, dict.fromkeys(present, survivors)),
            collector.add_unmask,
            share=1.0,
        )
        return tuple(present), collector.sums()

    def _next_attempt(self, round_number: int) -> tuple[int, Optional[tuple[str, ...]]]:
        """The attempt's number, and the only sites that may take part."""
        kept = self._kept()
        attempt = int(kept.get("attempt", 0)) + 1
        only = None
        repeats_noise = not self._noised or kept.get("restarts", 0) == self.restarts
        same = kept.get("round") == round_number and repeats_noise
        if same and kept.get("survivors"):
            only = tuple(kept["survivors"])
        self._keep(round_number, attempt, only or ())
        return attempt, only

    def _kept(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("it must be an object")
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self._path} is damaged ({error}); restore it, or choose another "
                "--output_dir"
            ) from error
        return content

    def _keep(self, round_number: int, attempt: int, survivors: Sequence[str]) -> None:
        record = {
            "round": round_number,
            "attempt": attempt,
            "survivors": list(survivors),
            "restarts": self.restarts,
        }
        atomic.write(self._path, json.dumps(record).encode(), mode=0o600)
