"""One round of DP-SGD inside every client, with a record as the unit of privacy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tfl_research.data import ClientData, PoissonBatching
from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent


@dataclasses.dataclass(frozen=True)
class RecordEvent(events.NoisedEvent):
    """One round in which every client takes DP-SGD's local steps on its records.

    A record belongs to one client, so other clients' steps add nothing to the record's
    ε (parallel composition). Client k takes `local_steps` steps. Each step is a
    Gaussian mechanism on records that are Poisson-sampled with
    q_k = min(1, B / n_k). Every client is
    charged for every round, whether or not it took part. ε of the event is the largest
    ε of a client; see `of_client` for each client's own ε.

    The guarantee assumes that the numbers of records n_k are public, and with them q_k
    and the divisors: adding or removing a record changes the summed gradients, but not
    these numbers.

    Attributes:
      noise_multiplier: z, standard deviation of the noise over the l2 norm clip of a
        record's (or microbatch's) gradient; 0 means no privacy (ε = inf).
      expected_batch_size: B, expected records of a local step, above 0.
      local_steps: steps of every client in a round, at least 1.
      microbatch_size: records whose mean gradient is clipped together, at least 1;
        above 1 the sensitivity is twice the clip, see `PoissonBatching`.
      clients: (client id, n_k) of every client; a client without records has ε = 0.

    Raises:
      ValueError: a number is outside its range, there are no clients, or two clients
        have the same name.
    """

    kind: ClassVar[str] = "record_dp_sgd"
    composes_by_round: ClassVar[bool] = True
    noised_by_clients: ClassVar[bool] = True

    noise_multiplier: float
    expected_batch_size: float
    local_steps: int
    microbatch_size: int
    clients: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        events.check_noise_multiplier(self.noise_multiplier)
        # `PoissonBatching` checks the other numbers.
        PoissonBatching(
            self.local_steps, self.expected_batch_size, self.microbatch_size
        )
        if not self.clients:
            raise ValueError("clients must have at least one name, got none")
        if len({name for name, _ in self.clients}) < len(self.clients):
            raise ValueError(f"clients must have different names, got {self.clients}")
        if any(records < 0 for _, records in self.clients):
            raise ValueError(
                f"each client must hold at least 0 records, got {self.clients}"
            )

    @classmethod
    def of(cls, noise_multiplier: float, clients: ClientData) -> RecordEvent:
        """Makes the event of clients that draw their local steps by Poisson sampling.

        Every client's data are read once, to count the records.

        Raises:
          ValueError: the local steps are not drawn by Poisson sampling.
        """
        batching = clients.batching
        if not isinstance(batching, PoissonBatching):
            raise ValueError(
                "record-level privacy needs local steps that are drawn by Poisson "
                f"sampling: expected a data.PoissonBatching, got {batching!r}"
            )
        return cls(
            float(noise_multiplier),
            float(batching.expected_batch_size),
            batching.steps,
            batching.microbatch_size,
            tuple((name, clients.num_examples(name)) for name in clients.client_ids),
        )

    @property
    def _batching(self) -> PoissonBatching:
        return PoissonBatching(
            self.local_steps, self.expected_batch_size, self.microbatch_size
        )

    @property
    def unit(self) -> str:
        return "record"

    @property
    def neighbouring_relation(self) -> str:
        """The neighbouring relation: one record more or less in one client."""
        return "add_or_remove_one"

    @property
    def accountants(self) -> tuple[str, ...]:
        return ("pld", "rdp")

    @property
    def sensitivity(self) -> int:
        """The sensitivity of a step's sum to one record, in clips: 1 or 2."""
        return 1 if self.microbatch_size == 1 else 2

    @property
    def sampling_rates(self) -> tuple[float, ...]:
        """q_k of every client, in the order of `clients`."""
        return tuple(self._batching.sampling_rate(n) for _, n in self.clients)

    def to_dict(self) -> dict[str, Any]:
        fields = events.fields_of(self)
        return {**fields, "clients": [list(client) for client in self.clients]}

    def of_client(self, index: int) -> RecordEvent:
        """Returns the event of a single client, by its index in `clients`."""
        return dataclasses.replace(self, clients=(self.clients[index],))

    @property
    def _most_sampled(self) -> int:
        """The index of the client with the largest ε at equal δ.

        A higher sampling rate is never more private. Clients without records come last.
        """
        rates = self.sampling_rates
        return max(
            range(len(rates)), key=lambda k: (self.clients[k][1] > 0, rates[k], -k)
        )

    @property
    def _step(self) -> GaussianEvent | None:
        """The event of a local step of the client with the largest ε.

        Its noise multiplier is relative to the sensitivity. The result is None if no
        client has records.
        """
        client = self._most_sampled
        if self.clients[client][1] == 0:
            return None
        return GaussianEvent.poisson(
            self.noise_multiplier / self.sensitivity, self.sampling_rates[client]
        )

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        """ε by rounds of the client with the fewest records, which is sampled most."""
        events.check_delta(delta)
        events.check_accountant(self, accountant)
        step, every = self._step, self.local_steps
        if step is None:
            return np.zeros(rounds)
        if accountant == "pld" and step.amplified and step.noise_multiplier > 0:
            # Only whole rounds count: nobody sees the model between local steps.
            solver, pieces, length = step.sampled_curve(delta), [np.zeros(1)], 1
            while length <= rounds:
                pieces.append(solver.block(length, every))
                length += len(pieces[-1])
            return np.concatenate(pieces)[1 : rounds + 1]
        steps = step.epsilon_curve(rounds * every, delta, accountant)
        return steps[every - 1 :: every]

    def epsilon(self, rounds: int, delta: float, accountant: str) -> float:
        """Returns the last value of `epsilon_curve`; the last digits can differ."""
        events.check_delta(delta)
        events.check_accountant(self, accountant)
        step = self._step
        if step is None:
            return 0.0
        return step.epsilon(rounds * self.local_steps, delta, accountant)

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        """Computes all steps' Rényi divergences (Mironov 2019, arXiv 1908.10530)."""
        step = self._step
        if step is None:
            return np.zeros(len(orders))
        return step.rdp(rounds * self.local_steps, orders)

    def as_gaussian_rounds(self, rounds: int) -> tuple[GaussianEvent, int]:
        """Returns the local steps of the client with the highest sampling rate.

        If no client has records, the rate is 1.
        """
        step = self._step or GaussianEvent.poisson(self.noise_multiplier, 1.0)
        return step, rounds * self.local_steps

    def zcdp(self, rounds: int) -> float:
        """Computes ρ = steps Δ²/(2z²), where Δ is the sensitivity in clips.

        Bun and Steinke 2016, arXiv 1605.02065, Lemma 2.4. Amplification by sampling is
        left out.
        """
        step = self._step
        return 0.0 if step is None else step.zcdp(rounds * self.local_steps)

    def description(self) -> list[str]:
        record_counts = [records for _, records in self.clients if records > 0]
        rates = [
            rate for rate, (_, n) in zip(self.sampling_rates, self.clients) if n > 0
        ]
        clipped = "record's gradient"
        if self.microbatch_size > 1:
            clipped = (
                f"microbatch's mean gradient (about {self.microbatch_size} records, "
                "put there at random, each independently of the others)"
            )
        lines = [
            "Inside each client, before anything leaves it, every local step is "
            "DP-SGD (Abadi et al. 2016, arXiv 1607.00133, Algorithm 1): each "
            f"{clipped} is clipped in l2 norm, Gaussian noise of "
            f"{self.noise_multiplier:g} times the clip is added to the sum, and the "
            "sum is divided by its expected number of terms.",
        ]
        if self.microbatch_size > 1:
            lines.append(
                "A record can move its microbatch from one clipped mean to another, by "
                "up to twice the clip: the accountant is given half the noise "
                "multiplier."
            )
        if record_counts:
            lines.append(
                "Sampling: each record joins each local step independently with "
                f"probability min(1, {self.expected_batch_size:g} / records), "
                f"{_range(rates)} in {len(record_counts)} clients of "
                f"{_range(record_counts)} records"
                + (
                    "; nobody must learn which records joined (keep the run seed "
                    "secret)."
                    if min(rates) < 1
                    else ": all take part, so that nothing is amplified."
                )
            )
        lines += [
            f"Participation: every client is charged {self.local_steps} local steps "
            "in every round, whether or not it took part.",
            "What is covered: each client's records against the server, the other "
            "clients and whoever sees the models of all rounds; the stated ε is the "
            "largest over the clients. The numbers of records are taken to be public "
            "and stay as they are when a record is removed.",
        ]
        return lines


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:.6g} to {high:.6g}"
