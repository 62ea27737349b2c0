"""The rules of a site's site.toml, which a coordinator cannot change."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Optional, Protocol

from tfl_research.errors import UserError
from tfl_research.federation import toml_file
from tfl_research.federation.wire.handler import Refused
from tfl_research.tasks import Task

# The metric that is a client's number of examples.
EXAMPLES = "examples"
# Names of settings of an experiment.
_UNIT, _CLIENT, _RECORD = "privacy_unit", "client", "record"


class Described(Protocol):
    """An experiment that lists its settings by name; see `experiment.Description`."""

    def flat(self) -> dict[str, Any]:
        """The settings by name."""
        ...


@dataclasses.dataclass(frozen=True)
class SitePolicy:
    """The table [policy] of a site.toml. A rule that is None allows everything.

    Attributes:
      tasks: names of the tasks that may be asked for.
      algorithms: names of the algorithms.
      metrics: names of the metrics that may leave the site, such as "loss"; "examples"
        are the numbers of each client's examples, which every round's reports have
        unless the run has secure sums. With `largest_epsilon`, None is "examples".
      most_rounds: the largest number of rounds of a run.
      least_record_noise_multiplier: the least noise multiplier of runs whose
        noise the site draws for its records.
      least_user_noise_multiplier: the least noise multiplier of runs whose
        noise the coordinator draws for clients. If both are given, a run has to keep
        one of the two.
      largest_epsilon: the largest ε of the records of each client, over all runs in the
        site's ledger; runs without record-level privacy are refused.
      delta: the δ at which this ε is computed; if None, n^-1.1 for a client with n
        examples, at most 0.001.
      least_examples: the least number of examples of each client.

    Raises:
      UserError: a value does not fit.

    Example:
      >>> from tfl_research.federation.site.policy import SitePolicy
      >>> policy = SitePolicy(most_rounds=100, metrics=("loss",))
      >>> policy.allows("loss"), policy.allows("accuracy")
      (True, False)
      >>> policy.check_round(101)
      Traceback (most recent call last):
          ...
      tfl_research...Refused: round 101: is above most_rounds = 100 in site.toml
    """

    tasks: Optional[tuple[str, ...]] = None
    algorithms: Optional[tuple[str, ...]] = None
    metrics: Optional[tuple[str, ...]] = None
    most_rounds: Optional[int] = None
    least_record_noise_multiplier: Optional[float] = None
    least_user_noise_multiplier: Optional[float] = None
    largest_epsilon: Optional[float] = None
    delta: Optional[float] = None
    least_examples: Optional[int] = None

    def __post_init__(self) -> None:
        for name in ("tasks", "algorithms", "metrics"):
            _check_names(name, getattr(self, name))
        for name in ("most_rounds", "least_examples"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise _unfit(name, value, "a whole number of at least 1")
        for name in ("least_record_noise_multiplier", "least_user_noise_multiplier"):
            _check_positive(name, getattr(self, name))
        _check_positive("largest_epsilon", self.largest_epsilon)
        _check_positive("delta", self.delta)
        if self.delta is not None and not self.delta < 1:
            raise _unfit("delta", self.delta, "a number below 1")
        if self.delta is not None and self.largest_epsilon is None:
            raise UserError("delta goes with largest_epsilon; give both, or neither")

    @classmethod
    def of(cls, table: Mapping[str, Any], where: str) -> SitePolicy:
        """The policy of a table of a TOML file.

        Args:
          table: the entries of the table.
          where: the name of the table in errors.

        Raises:
          UserError: an entry is unknown, or a value does not fit.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        toml_file.check_names(where, table, names)
        try:
            return cls(
                **{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
            )
        except UserError as error:
            raise UserError(f"{where}: {error}") from None

    def allows(self, metric: str) -> bool:
        """Whether a metric may leave the site.

        Metrics are exact, and ε does not cover them. So with a largest ε, only the
        metrics in `metrics` may leave the site.
        """
        if self.metrics is not None:
            return metric in self.metrics
        return self.largest_epsilon is None or metric == EXAMPLES

    def check_metrics(self, names: Iterable[str]) -> None:
        """Checks the metrics that a request asks for.

        Raises:
          Refused: a metric may not leave the site.
        """
        for name in names:
            if self.allows(name):
                continue
            if self.metrics is None:
                raise Refused(
                    f"the metric {name!r} is exact and not covered by ε, but site.toml "
                    f"has largest_epsilon = {self.largest_epsilon:g}; the site allows "
                    "it by metrics in site.toml"
                )
            raise Refused(
                f"the metric {name!r} must not leave the site: site.toml has metrics = "
                f"{list(self.metrics)}"
            )

    def check(self, experiment: Described, task: Task) -> None:
        """Checks a run before it begins.

        Args:
          experiment: the experiment that the coordinator asks for.
          task: the task with the site's own clients.

        Raises:
          Refused: the run breaks a rule; the message names the rule, the rule's value,
            and the run's value.
        """
        flat = experiment.flat()
        for name, rule, allowed in (
            ("task", "tasks", self.tasks),
            ("algorithm", "algorithms", self.algorithms),
        ):
            if allowed is not None and flat.get(name) not in allowed:
                raise Refused(
                    f"the run has {name} = {flat.get(name)!r}: site.toml has {rule} = "
                    f"{list(allowed)}"
                )
        rounds = flat.get("rounds")
        if self.most_rounds is not None and not (
            isinstance(rounds, int) and rounds <= self.most_rounds
        ):
            raise Refused(
                f"the run has {rounds} rounds, but site.toml has most_rounds = "
                f"{self.most_rounds}"
            )
        if not self.allows(EXAMPLES) and not flat.get("secure_sums"):
            raise Refused(
                "each report of a client has its number of examples, but site.toml "
                f"has metrics = {list(self.metrics or ())}, without {EXAMPLES!r}; "
                "give --secure_sums, which show only the sum over all sites"
            )
        self._check_privacy(flat)
        self._check_examples(task)

    def check_round(self, number: int) -> None:
        """Checks the number of a round.

        Raises:
          Refused: the number is above `most_rounds`.
        """
        if self.most_rounds is not None and number > self.most_rounds:
            raise Refused(
                f"round {number}: is above most_rounds = {self.most_rounds} in "
                "site.toml"
            )

    def check_record_noise(self, noise_multiplier: float) -> None:
        """Checks the noise that the site would draw for its records.

        Raises:
          Refused: the noise is less than `least_record_noise_multiplier`.
        """
        least = self.least_record_noise_multiplier
        if least is not None and not noise_multiplier >= least:
            raise Refused(
                f"the run has the noise multiplier {noise_multiplier:g} for records, "
                f"but site.toml has least_record_noise_multiplier = {least:g}"
            )

    def _check_privacy(self, flat: Mapping[str, Any]) -> None:
        unit = flat.get(_UNIT)
        if self.largest_epsilon is not None and unit != _RECORD:
            raise Refused(
                f"the run has {_kind_of(unit)}, so nothing bounds ε of this site's "
                "records, but site.toml has largest_epsilon = "
                f"{self.largest_epsilon:g}; give --record_noise_multiplier"
            )
        rules = {
            _RECORD: ("least_record_noise_multiplier", "record_noise_multiplier"),
            _CLIENT: ("least_user_noise_multiplier", "noise_multiplier"),
        }
        given = {
            kind: (rule, setting)
            for kind, (rule, setting) in rules.items()
            if getattr(self, rule) is not None
        }
        if not given:
            return
        if unit not in given:
            asked = " or ".join(
                f"{rule} = {getattr(self, rule):g}" for rule, _ in given.values()
            )
            raise Refused(f"the run has {_kind_of(unit)}, but site.toml has {asked}")
        rule, setting = given[unit]
        noise = flat.get(setting)
        if noise is None and unit == _RECORD:
            # The noise is calibrated from all sites' numbers of records. The site's
            # ledger checks the noise before the first round.
            return
        if noise is None:
            raise Refused(
                "the run does not state its noise multiplier, but site.toml has "
                f"{rule} = {getattr(self, rule):g}; give --{setting}"
            )
        if unit == _RECORD:
            self.check_record_noise(noise)
        elif not noise >= getattr(self, rule):
            raise Refused(
                f"the run has the noise multiplier {noise:g} for clients, but "
                f"site.toml has {rule} = {getattr(self, rule):g}"
            )

    def _check_examples(self, task: Task) -> None:
        if self.least_examples is None:
            return
        clients = task.train
        for client_id in clients.client_ids:
            # The message does not have the number, which stays at the site.
            if clients.num_examples(client_id) < self.least_examples:
                raise Refused(
                    f"client {client_id!r} has too few examples: site.toml has "
                    f"least_examples = {self.least_examples}"
                )


def _kind_of(unit: Any) -> str:
    words = {_CLIENT: "privacy of clients", _RECORD: "privacy of records"}
    return words.get(unit, "no privacy")


def _check_names(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, tuple) or not all(isinstance(x, str) for x in value):
        raise _unfit(name, value, "a list of names")


def _check_positive(name: str, value: Any) -> None:
    if value is None:
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Whole numbers of TOML may be larger than any float.
    if not is_number or not 0 < value <= sys.float_info.max:
        raise _unfit(name, value, "a number above 0")


def _unfit(name: str, value: Any, expected: str) -> UserError:
    shown = list(value) if isinstance(value, tuple) else value
    return UserError(f"{name} = {shown!r}: expected {expected}")
