"""The properties of a sampler that a privacy accountant needs."""

from __future__ import annotations

import dataclasses

KINDS = ("poisson", "fixed_size", "cyclic_poisson", "none")
NEIGHBOURING_RELATIONS = ("add_or_remove_one", "replace_one", "zero_out")


@dataclasses.dataclass(frozen=True)
class Amplification:
    """The amplification of a round's privacy by sampling, and the rounds of a client.

    Attributes:
      kind: "poisson" (every client joins independently with probability
        `sampling_rate`; Mironov et al. 2019, arXiv 1908.10530), "fixed_size" (a
        uniformly random subset of `cohort_size` clients; Balle et al. 2018, arXiv
        1807.01647), "cyclic_poisson" (a client has a turn every `min_separation`
        rounds, and joins independently in its turns; Choquette-Choo et al. 2023, arXiv
        2306.08153, section 5) or "none" (the cohort is not secret, or all clients take
        part).
      sampling_rate: a client's probability of taking part in one round, averaged
        over rounds, in (0, 1].
      population: number of clients that can be sampled.
      cohort_size: expected number of clients in a round's cohort.
      neighbouring_relation: the relation under which the sampler is analysed.
        "add_or_remove_one": two populations that differ by one client.
        "replace_one": equally large populations that differ in one client's data;
        the sensitivity of a sum of clipped updates is then twice the clip.
        "zero_out": a client's contributions become zero, and the cohorts stay the
        same; the sensitivity is the clip.
      min_separation: two rounds of a client are at least so many rounds apart; 1 if a
        client can take part in consecutive rounds.
      rounds_per_epoch: a client takes part at most once in each epoch of this many
        rounds.

    Raises:
      ValueError: the kind or the relation is unknown, or a number does not fit the
        kind.
    """

    kind: str
    sampling_rate: float
    population: int
    cohort_size: float
    neighbouring_relation: str
    min_separation: int = 1
    rounds_per_epoch: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {self.kind!r}")
        if self.neighbouring_relation not in NEIGHBOURING_RELATIONS:
            raise ValueError(
                f"neighbouring_relation must be one of {NEIGHBOURING_RELATIONS}, got "
                f"{self.neighbouring_relation!r}"
            )
        needed = {
            "poisson": "add_or_remove_one",
            "fixed_size": "replace_one",
            "cyclic_poisson": "add_or_remove_one",
        }
        if self.neighbouring_relation != needed.get(
            self.kind, self.neighbouring_relation
        ):
            raise ValueError(
                f"{self.kind} sampling is analysed under {needed[self.kind]}, got "
                f"{self.neighbouring_relation}"
            )
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(
                f"sampling_rate must be in (0, 1], got {self.sampling_rate}"
            )
        if self.population < 1:
            raise ValueError(f"population must be at least 1, got {self.population}")
        if not 0 < self.cohort_size <= self.population:
            raise ValueError(
                f"cohort_size must be in (0, {self.population}] (the population), got "
                f"{self.cohort_size}"
            )
        for name in ("min_separation", "rounds_per_epoch"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.kind == "cyclic_poisson" and self.sampling_rate_in_turn > 1:
            raise ValueError(
                f"sampling_rate x min_separation must be at most 1, got "
                f"{self.sampling_rate} x {self.min_separation}"
            )

    @property
    def sampling_rate_in_turn(self) -> float:
        """The probability that a client joins in its turn ("cyclic_poisson")."""
        # By rounding, the product of a rate 1/b and b can be above 1.
        rate = self.sampling_rate * self.min_separation
        return 1.0 if 1 < rate < 1 + 1e-9 else rate
