"""Describes an experiment: its parts, and settings that follow from other settings."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Optional, TypeVar, Union

from tfl_research.aggregators import AGGREGATORS, AggregatorSettings
from tfl_research.algorithms import ALGORITHMS, AlgorithmSettings
from tfl_research.errors import SettingError
from tfl_research.experiment import flattening
from tfl_research.experiment.configs import (
    Attack,
    Audit,
    Baseline,
    Batches,
    Cohorts,
    Compression,
    Devices,
    RecordLevelPrivacy,
    Release,
    Runtime,
    SecureSums,
    Silos,
    TaskChoice,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.models.optimizers import ClientOptimizer, Optimizer, ServerOptimizer
from tfl_research.program import Callback
from tfl_research.settings import Settings
from tfl_research.tasks import Task

if TYPE_CHECKING:
    import tensorflow_federated as tff

    Aggregator = Union[
        tff.aggregators.WeightedAggregationFactory,
        tff.aggregators.UnweightedAggregationFactory,
    ]
Privacy = Union[UserLevelPrivacy, RecordLevelPrivacy]
Described = TypeVar("Described", bound="Description")
# Parts that may be any registered class.
_REGISTERED = ("algorithm", "aggregator")


@dataclasses.dataclass(frozen=True, repr=False)
class Description:
    """The description of an experiment, without running it; see `Experiment`."""

    task: Union[str, TaskChoice, Task]
    algorithm: Union[str, AlgorithmSettings] = "fed_avg"
    client_optimizer: Optimizer = dataclasses.field(default_factory=ClientOptimizer)
    server_optimizer: Optimizer = dataclasses.field(default_factory=ServerOptimizer)
    batches: Batches = dataclasses.field(default_factory=Batches)
    cohorts: Cohorts = dataclasses.field(default_factory=Cohorts)
    weighting: Weighting = dataclasses.field(default_factory=Weighting)
    privacy: Optional[Privacy] = None
    release: Release = dataclasses.field(default_factory=Release)
    aggregator: Union[str, AggregatorSettings, Aggregator] = "mean"
    compression: Compression = dataclasses.field(default_factory=Compression)
    secure_sums: SecureSums = dataclasses.field(default_factory=SecureSums)
    devices: Devices = dataclasses.field(default_factory=Devices)
    silos: Silos = dataclasses.field(default_factory=Silos)
    attack: Attack = dataclasses.field(default_factory=Attack)
    audit: Optional[Audit] = None
    baseline: Baseline = dataclasses.field(default_factory=Baseline)
    personal_evaluation: bool = False
    training: Training = dataclasses.field(default_factory=Training)
    runtime: Runtime = dataclasses.field(default_factory=Runtime)
    callbacks: Sequence[Callback] = ()
    name: str = "experiment"

    # Parts whose type is one class of settings.
    PLAIN: ClassVar[Mapping[str, type[Settings]]] = {
        "batches": Batches,
        "cohorts": Cohorts,
        "weighting": Weighting,
        "release": Release,
        "compression": Compression,
        "secure_sums": SecureSums,
        "devices": Devices,
        "silos": Silos,
        "attack": Attack,
        "baseline": Baseline,
        "training": Training,
        "runtime": Runtime,
    }

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        if isinstance(self.task, str):
            put("task", TaskChoice(self.task))
        if isinstance(self.algorithm, (str, AlgorithmSettings)):
            put("algorithm", ALGORITHMS.resolve(self.algorithm))
        if isinstance(self.aggregator, (str, AggregatorSettings)):
            put("aggregator", AGGREGATORS.resolve(self.aggregator))
        put("client_optimizer", _as(ClientOptimizer, self.client_optimizer))
        put("server_optimizer", _as(ServerOptimizer, self.server_optimizer))
        if isinstance(self.callbacks, (list, tuple)):
            put("callbacks", tuple(self.callbacks))
        self._check_kinds()
        flattening.check_parameters(type(self))

    def __repr__(self) -> str:
        """Shows the parts that differ from their defaults."""
        defaults = {
            "algorithm": ALGORITHMS.resolve("fed_avg"),
            "aggregator": AGGREGATORS.resolve("mean"),
        }
        shown = []
        for field in dataclasses.fields(self):
            value, default = getattr(self, field.name), field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            default = defaults.get(field.name, default)
            if isinstance(value, Task):
                shown.append(f"{field.name}=<task {value.name!r}>")
            elif value != default:
                shown.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _check_kinds(self) -> None:
        kinds: dict[str, tuple[type[Any], ...]] = {
            "task": (TaskChoice, Task),
            "algorithm": (AlgorithmSettings,),
            "privacy": (UserLevelPrivacy, RecordLevelPrivacy, type(None)),
            "aggregator": (AggregatorSettings, *_factories()),
            "audit": (Audit, type(None)),
            "callbacks": (tuple,),
            "personal_evaluation": (bool,),
            "name": (str,),
            **{name: (kind,) for name, kind in self.PLAIN.items()},
        }
        for name, expected in kinds.items():
            value = getattr(self, name)
            names = " or ".join(
                "None" if kind is type(None) else kind.__name__ for kind in expected
            )
            if not isinstance(value, expected):
                raise SettingError(
                    f"{name} must be {names}, got {_shown(value)}; give "
                    f"{_to_give(name, value, expected)}"
                )
            # A run's record has only the values of these parts, and not their code.
            is_part = isinstance(value, Settings) and name not in _REGISTERED
            if is_part and type(value) not in expected:
                raise SettingError(
                    f"{name} must be {names} itself, got its subclass "
                    f"{type(value).__name__}; give the settings without code of your "
                    "own"
                )
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise SettingError(
                    f"callbacks must be objects of Callback, got {_shown(callback)}; "
                    f"give {_to_give('callbacks', callback, (Callback,))}"
                )

    @property
    def resolved_cohorts(self) -> Cohorts:
        """The cohorts; the default sampler depends on the privacy."""
        if self.cohorts.sampler is not None:
            return self.cohorts
        sampler = "fixed"
        if isinstance(self.privacy, UserLevelPrivacy):
            sampler = "poisson" if self.devices.devices is None else "fixed"
        elif isinstance(self.privacy, RecordLevelPrivacy):
            sampler = "full"
        return dataclasses.replace(self.cohorts, sampler=sampler)

    @property
    def resolved_weighting(self) -> Weighting:
        """The client weighting; the default fits the other parts."""
        if self.weighting.client_weighting is not None:
            return self.weighting
        kind = self.chosen_algorithm.WEIGHTING or "examples"
        if isinstance(self.privacy, UserLevelPrivacy) or not self.takes_weights:
            kind = "uniform"
        return dataclasses.replace(self.weighting, client_weighting=kind)

    @property
    def takes_weights(self) -> bool:
        """Whether the aggregator accepts clients with different weights."""
        if isinstance(self.aggregator, AggregatorSettings):
            return self.aggregator.takes_weights
        # The user's own factory; TensorFlow was already imported to make it.
        import tensorflow_federated as tff

        return isinstance(self.aggregator, tff.aggregators.WeightedAggregationFactory)

    @property
    def clients(self) -> ClientOptimizer:
        """The clients' optimizer."""
        if not isinstance(self.client_optimizer, ClientOptimizer):
            raise TypeError(
                "client_optimizer must be a ClientOptimizer, got "
                f"{self.client_optimizer!r}"
            )
        return self.client_optimizer

    @property
    def server(self) -> ServerOptimizer:
        """The server's optimizer."""
        if not isinstance(self.server_optimizer, ServerOptimizer):
            raise TypeError(
                "server_optimizer must be a ServerOptimizer, got "
                f"{self.server_optimizer!r}"
            )
        return self.server_optimizer

    @property
    def chosen_algorithm(self) -> AlgorithmSettings:
        """The algorithm's settings."""
        if isinstance(self.algorithm, str):
            raise TypeError(f"expected settings, got {self.algorithm!r}")
        return self.algorithm

    @property
    def chosen_aggregator(self) -> Optional[AggregatorSettings]:
        """The aggregator's settings; None for a user's own factory."""
        if isinstance(self.aggregator, AggregatorSettings):
            return self.aggregator
        return None

    @property
    def aggregator_name(self) -> str:
        """The aggregator's name, or the class name of a user's own factory."""
        chosen = self.chosen_aggregator
        return type(self.aggregator).__name__ if chosen is None else chosen.NAME

    def flat(self) -> dict[str, Any]:
        """Returns every setting by its name, as the run's folder records the settings.

        A user's own task or aggregation factory has no settings, so only its name is
        included.

        Example:
          >>> experiment = tfl.Experiment("heart", algorithm="fed_prox")
          >>> flat = experiment.flat()
          >>> flat["task"], flat["algorithm"], flat["proximal_strength"], flat["rounds"]
          ('heart', 'fed_prox', 0.1, 100)
        """
        return flattening.flat(self)

    @classmethod
    def from_flat(
        cls: type[Described], values: Mapping[str, Any], *, name: str = "experiment"
    ) -> Described:
        """Makes the experiment that flat settings describe, as on a command line.

        Args:
          values: values by the settings' names; other settings have their defaults.
            `privacy_unit` is "client" for user-level privacy, "record" for record-level
            privacy, or None. `audit` says whether there is an audit.
          name: the name of the experiment.

        Raises:
          SettingError: a name is unknown, or a value is refused.

        Example:
          >>> flat = {"task": "heart", "privacy_unit": "client", "noise_multiplier": 2}
          >>> experiment = tfl.Experiment.from_flat({**flat, "rounds": 5})
          >>> experiment.privacy.noise_multiplier, experiment.training.rounds
          (2.0, 5)
        """
        return flattening.from_flat(cls, values, name)

    def with_settings(self: Described, **changes: Any) -> Described:
        """Returns the experiment with some settings changed, by their flat names.

        A new algorithm, mechanism or aggregator has its default parameters, and not
        the parameters of the old one.

        Raises:
          SettingError: no part has a setting of this name, or a value is refused.

        Example:
          >>> experiment = tfl.Experiment("heart", algorithm="fed_prox")
          >>> other = experiment.with_settings(seed=3, proximal_strength=0.5)
          >>> other.training.seed, other.algorithm
          (3, FedProx(proximal_strength=0.5))
          >>> other.with_settings(algorithm="fed_dyn").algorithm
          FedDyn()
        """
        return flattening.with_settings(self, changes)


def _factories() -> tuple[type[Any], ...]:
    """Returns TFF's classes of aggregation factories; none if TFF is not imported.

    Without an import of TFF, nobody can have made a factory.
    """
    if "tensorflow_federated" not in sys.modules:
        return ()
    import tensorflow_federated as tff

    return (
        tff.aggregators.WeightedAggregationFactory,
        tff.aggregators.UnweightedAggregationFactory,
    )


# Examples of values for parts, if the name of the part's class does not say enough.
_EXAMPLES = {
    "task": "the name of a task, TaskChoice(...) or tasks.from_arrays(...)",
    "algorithm": "the name of an algorithm or its settings, as algorithms.FedProx()",
    "privacy": "UserLevelPrivacy(...), RecordLevelPrivacy(...) or None",
    "aggregator": "the name of an aggregator, its settings or a TFF factory",
    "callbacks": "a list of callbacks, as [program.MLflow()]",
    "audit": "Audit(...) or None",
    "personal_evaluation": "True or False",
    "name": "text",
}


def _to_give(name: str, value: Any, expected: tuple[type[Any], ...]) -> str:
    """Writes what to give instead of a refused value."""
    if isinstance(value, type) and issubclass(value, expected):
        return f"an object, {value.__name__}(...), in place of the class"
    return _EXAMPLES.get(name) or f"{expected[0].__name__}(...)"


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {' '.join(repr(value).split()):.80}"


def _as(kind: type[Optimizer], given: Any) -> Optimizer:
    """Makes a client or a server optimizer; these differ in their settings' names."""
    if type(given) is kind:
        return given
    name = f"{kind.PREFIX}optimizer"
    own = "; put an optimizer of your own into an algorithm of your own"
    if not isinstance(given, Optimizer):
        raise SettingError(
            f"{name} must be an Optimizer, as SGD(0.1), got {_shown(given)}"
            f"{own if callable(getattr(given, 'next', None)) else ''}"
        )
    # A subclass has settings or code that an Optimizer does not have.
    if type(given) is not Optimizer:
        raise SettingError(
            f"{name} must be an Optimizer itself, as SGD(0.1), got its subclass "
            f"{type(given).__name__}{own}"
        )
    values = {
        field.name: getattr(given, field.name)
        for field in dataclasses.fields(Optimizer)
    }
    return kind(**values)
