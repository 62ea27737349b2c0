"""A task: federated data, a Keras model builder, an objective and a card."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Optional

from tfl_research import data
from tfl_research.data import ClientData
from tfl_research.data.arrays import structures
from tfl_research.data.client_data import AnyBatching
from tfl_research.tasks.fit_checks.fitting import Fitting
from tfl_research.tasks.pooled import Pooled

if TYPE_CHECKING:
    from tfl_research.models import FunctionalModel
    from tfl_research.tasks.objectives import Objective


@dataclasses.dataclass(frozen=True)
class Card:
    """Facts about a task for people: the source of the data and the prediction.

    Attributes:
      title: one line.
      client_unit: the unit that a client stands for ("speaking role", "hospital").
      target: the predicted quantity, and why it was chosen.
      source: package, version and original publisher of the data.
      licence: licence of the data as packaged.
      label_names: names of the classes, in label order; empty for many classes.
      public_data: whether the data are published, so that a run need not withhold
        anything for them. This does not cover other data that a user puts into a
        registered task.
      public_knowledge: facts about the data that the task assumes to be publicly known,
        such as declared ranges, categories, or a list of clients. A private run's
        statement names them.
    """

    title: str
    client_unit: str
    target: str
    source: str
    licence: str
    label_names: tuple[str, ...] = ()
    public_data: bool = False
    public_knowledge: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class TaskRecipe:
    """How a registered task was built, so that it can be recorded and built again.

    Attributes:
      name: the task's name in the registry.
      seed: the seed of partitions, splits and held-out clients.
      options: all of the task's options by name, defaults included.
      data: `Task.data_sources` of the task that the registry built.
    """

    name: str
    seed: int = 0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data: Any = dataclasses.field(default=None, compare=False, repr=False)


@dataclasses.dataclass(frozen=True)
class Task:
    """A federated learning problem, without algorithm and privacy.

    Building a task reads data with NumPy and pandas only; TensorFlow is imported
    by `build_model` and `build_objective`, when they are called.

    `tasks.from_arrays` makes the task of the example in fewer lines. `ClientData` can
    also load each client when it is needed.

    Example:
      >>> import numpy as np
      >>> from tfl_research import data, tasks
      >>> x, y = np.zeros((4, 3), np.float32), np.array([0, 1, 0, 1], np.int32)
      >>> clients = {"ward 1": {"x": x, "y": y}, "ward 2": {"x": x[:2], "y": y[:2]}}
      >>> def build_model():
      ...     import tensorflow as tf
      ...     layers = [tf.keras.layers.Input([3]), tf.keras.layers.Dense(2)]
      ...     return tf.keras.Sequential(layers)
      >>> def build_objective():
      ...     return tasks.objectives.multiclass()
      >>> train, test, held_out = data.client_splits.split_arrays(
      ...     clients, test_fraction=0.5, seed=0, batching=data.Batching(batch_size=2)
      ... )
      >>> card = tasks.Card("Falls", "ward", "whether a patient fell", "own", "private")
      >>> task = tasks.Task(
      ...     "falls", card, train, test, held_out, build_model, build_objective
      ... )
      >>> task.build_model().output_shape
      (None, 2)

    Attributes:
      name: the task's name, in the registry if it is registered.
      card: source, licence, client unit, target.
      train: the training clients' training splits.
      test: the same clients' test splits (a client may have none).
      held_out: clients that are never trained on, with all their examples. None if
        there are too few clients to hold one out (four hospitals).
      build_model: a function that returns a new model, which maps x `[batch, ...]` to
        predictions: a Keras model, or a model of `tff.learning.models`;
        `models.as_functional` names further possible models.
      build_objective: a function that returns the objective: the per-example loss and
        the metrics.
      selection_metric: the evaluation metric that picks the best model.
      further_splits: further clients on which models are evaluated, by the split's
        name. The name begins with `eval_`, as `eval_backdoor`.
      recipe: how the registry built the task; None for a task that was built by
        hand.
      pooled: values that were computed from the rows of several clients or records
        together. If the data are not public, a private run refuses these values, unless
        they are declared public knowledge.
      fitting: checks that data, model and objective fit together.
      non_trainable: what happens to the model's non-trainable weights that training
        changes: "frozen" (nothing), "averaged" (the server averages the clients'
        changes) or "local" (each client keeps its own); see
        `models.FunctionalModel.non_trainable`. None refuses models that have such
        weights.
      agreed: digest of files that must be equal at all sites of a federation, such as a
        schema file; empty if the options say everything.
      encoding: distinguishes encodings of the same files. If a version of the toolkit
        changes an encoding, a run from before the change counts as another run.

    Raises:
      ValueError: the name of a further split does not begin with `eval_`, or the rows
        of an array have no numbers.
    """

    name: str
    card: Card
    train: ClientData
    test: ClientData
    held_out: ClientData | None
    build_model: Any
    build_objective: Callable[[], Objective]
    selection_metric: str = "accuracy"
    further_splits: Mapping[str, ClientData] = dataclasses.field(default_factory=dict)
    recipe: Optional[TaskRecipe] = None
    pooled: tuple[Pooled, ...] = ()
    fitting: Fitting = dataclasses.field(
        default_factory=Fitting, compare=False, repr=False
    )
    non_trainable: Optional[str] = None
    agreed: str = ""
    encoding: str = ""

    def __post_init__(self) -> None:
        # Columns of metrics.csv begin with the name, and a private run decides by this
        # prefix what it releases: held_out_... is never about training clients.
        for name in self.further_splits:
            if not name.startswith("eval_"):
                raise ValueError(
                    f"further_splits: the name of a split must begin with 'eval_', got "
                    f"{name!r}; give 'eval_{name}'"
                )
        _check_not_empty(self)
        _check_own_statistics(self)
        fitting = self.fitting.of(self.build_model, self.build_objective)
        object.__setattr__(self, "fitting", fitting)
        # Clients that are not in memory are checked when they are first in a cohort.
        train = dataclasses.replace(self.train, check=fitting.check)
        object.__setattr__(self, "train", train)

    def functional_model(self, seed: int = 0) -> FunctionalModel:
        """Returns the task's model as a pure function of its weights.

        Args:
          seed: seed of the initial weights.

        Raises:
          UserError: the model's head does not fit the objective or the labels, or the
            labels or tokens of a client in memory do not fit (see `fit_checks`).
        """
        from tfl_research import models

        model = models.as_functional(
            self.build_model, self.x_spec, seed=seed, non_trainable=self.non_trainable
        )
        self.fitting.check_model(self, model)
        return model

    @property
    def x_spec(self) -> Any:
        """The spec of a batch of inputs: `tf.TensorSpec` `[None, ...]`, or a dict."""
        import tensorflow as tf

        x = structures.packed(self.train.specs, "x")
        return tf.nest.map_structure(
            lambda spec: tf.TensorSpec((None, *spec.shape), spec.dtype), x
        )

    @property
    def data_sources(self) -> dict[str, Any]:
        """Each split's client ids and loader; None for a missing split."""
        splits = {
            "train": self.train,
            "test": self.test,
            "held_out": self.held_out,
            **self.further_splits,
        }
        return {
            name: None if split is None else (tuple(split.client_ids), split.load)
            for name, split in splits.items()
        }

    @property
    def has_data_of_recipe(self) -> bool:
        """Whether the data are those that the registry built by the recipe.

        A task keeps its recipe if its clients are replaced later.
        """
        if self.recipe is None or self.recipe.data is None:
            return False
        built, now = self.recipe.data, self.data_sources
        if built.keys() != now.keys():
            return False
        for name, source in now.items():
            if source is None or built[name] is None:
                if source is not built[name]:
                    return False
            elif source[0] != built[name][0] or source[1] is not built[name][1]:
                return False
        return True

    @property
    def has_foreign_data(self) -> bool:
        """Whether a split loads other examples than the task that the registry built.

        A subset of the clients is not foreign. False for a task without a recipe.
        """
        if self.recipe is None or self.recipe.data is None:
            return False
        # Loaders are compared by identity, since a loader need not be hashable.
        built = {id(s[1]) for s in self.recipe.data.values() if s is not None}
        now = {id(s[1]) for s in self.data_sources.values() if s is not None}
        return not now <= built

    def with_batching(self, batching: AnyBatching) -> Task:
        """Returns the same task with other local steps in training."""
        return dataclasses.replace(self, train=self.train.with_batching(batching))


def _check_not_empty(task: Task) -> None:
    """Refuses rows without numbers: oneDNN crashes the process on their products."""
    for name, spec in task.train.specs.items():
        if 0 in spec.shape:
            raise ValueError(
                f"the array {name!r} has rows of shape {tuple(spec.shape)}, which hold "
                "nothing; expected at least one value in each row"
            )


def _check_own_statistics(task: Task) -> None:
    """Refuses evaluated clients without own statistics if each client keeps its own."""
    if task.non_trainable != "local":
        return
    trained = set(task.train.client_ids)
    for name, split in {"held_out": task.held_out, **task.further_splits}.items():
        unknown = () if split is None else set(split.client_ids) - trained
        if unknown:
            raise ValueError(
                f"non_trainable='local': client {min(unknown)!r} of {name} is never "
                "trained, so it has no statistics to be evaluated with; leave such "
                "clients out, or give non_trainable='averaged'"
            )


def content_digest(task: Task) -> str:
    """Computes a fingerprint of a task's data: SHA-256 of client ids and arrays, hex.

    The digest covers the training, test and held-out clients and the further splits,
    each client in order. A run folder records the digest, so that a run is not resumed
    on other data. The digest does not depend on model, objective, batching and card.
    Every client is loaded once, one after another.

    Returns:
      The digest as 64 hexadecimal digits.

    Raises:
      ValueError: an array holds Python objects.

    Example:
      >>> from tfl_research import tasks
      >>> task = tasks.get("mnist", num_clients=5, held_out_clients=0)
      >>> other = tasks.get("mnist", num_clients=5, held_out_clients=0, seed=1)
      >>> len(tasks.content_digest(task))
      64
      >>> tasks.content_digest(task) == tasks.content_digest(other)
      False
    """
    return data.content_digest(
        {
            "train": task.train,
            "test": task.test,
            "held_out": task.held_out,
            **task.further_splits,
        }
    )
