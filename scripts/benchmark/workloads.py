"""The workloads: tasks, learning rates and cohorts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Optional

import numpy as np

from benchmark.images import BATCH_SIZE, CLIENT_RATE, IMAGES, Images
from benchmark.large import LARGE, SMALL, Large
from tfl_research import aggregators, data, sampling, tasks
from tfl_research.tasks import Card, Task


@dataclasses.dataclass(frozen=True)
class Workload:
    """A workload to measure.

    Attributes:
      title: what it is.
      task: data and model.
      cohort: clients of every round.
      client_rate: SGD learning rate of the clients.
      clip: l2 norm clip of a Gaussian mechanism with noise multiplier 1, or None.
      rule: over the cohort's stacked updates in place of a mean, or None.
      synthetic: whether its data are random images, which the hand-written
        contenders know how to make.
      sampler: draws each round's cohort from `cohort`; all of it when left out.
      datasets: whether all engines execute TFF's own process over clients'
        `tf.data` datasets, in place of the toolkit's process over arrays.
      record_clip: l2 norm clip of DP-SGD at the clients, whose noise multiplier is
        `images.NOISE_MULTIPLIER`, or None.
      initial_weights: the trainable weights that every contender starts from, in
        Keras' order; None for each contender's own.
      large: what a workload on random data for a larger model is; None for others.
    """

    title: str
    task: Task
    cohort: tuple[str, ...]
    client_rate: float = 0.01
    clip: Optional[float] = None
    rule: Optional[aggregators.RuleSettings] = None
    synthetic: bool = False
    sampler: Optional[sampling.Sampler] = None
    datasets: bool = False
    record_clip: Optional[float] = None
    initial_weights: Optional[Callable[[], list[np.ndarray]]] = None
    large: Optional[Large] = None

    @property
    def expected_cohort_size(self) -> float:
        """Clients of a round; the average if it varies."""
        if self.sampler is not None:
            return self.sampler.expected_cohort_size
        return len(self.cohort)

    def rounds_cohort(self, round_number: int) -> data.Cohort:
        """The cohort's local steps in a round (numbered from 0), shuffled anew."""
        cohort = self.cohort
        if self.sampler is not None:
            cohort = self.sampler.sample(round_number + 1)
        return self.task.train.cohort(cohort, seed=0, round_number=round_number)


def on_images(images: Images, clients: Optional[data.ClientData] = None) -> Workload:
    """A workload on random images.

    Args:
      images: what they are, and the model.
      clients: other client data of the same kind; those of `images` by default.
    """

    def initial_weights() -> list[np.ndarray]:
        return [array for pair in images.initial_weights() for array in pair]

    def build_model() -> Any:
        import tensorflow as tf

        from tfl_research.models.architectures import image_models

        if images.model == "mlp":
            model = image_models.mlp(784, images.num_classes)
        else:
            model = image_models.emnist_cnn(images.num_classes)
        if tf.executing_eagerly():
            model.set_weights(initial_weights())
        return model

    def build_objective() -> Any:
        from tfl_research.tasks import objectives

        return objectives.multiclass()

    if clients is None:
        batching: Any = data.Batching(BATCH_SIZE)
        if images.record_clip is not None:
            steps = images.examples // images.batch_size
            batching = data.PoissonBatching(steps, images.batch_size)
        clients = data.ClientData.from_arrays(images.clients(), batching)
    title = images.title
    card = Card(title, "client", "random labels", "made here", "none")
    task = Task(title, card, clients, clients, None, build_model, build_objective)
    return Workload(
        title,
        task,
        tuple(clients.client_ids),
        client_rate=CLIENT_RATE,
        clip=images.clip,
        synthetic=True,
        record_clip=images.record_clip,
        initial_weights=initial_weights,
    )


def on_large(spec: Large) -> Workload:
    """A workload on random data for a larger model."""

    def build_model() -> Any:
        from benchmark import large_keras

        return large_keras.build(spec)

    def build_objective() -> Any:
        from tfl_research.tasks import objectives

        return objectives.next_token() if labels else objectives.multiclass()

    clients = data.ClientData.from_arrays(
        spec.clients(), data.Batching(spec.batch_size)
    )
    labels = len(clients.specs["y"].shape)
    card = Card(spec.title, "client", "random labels", "made here", "none")
    task = Task(spec.title, card, clients, clients, None, build_model, build_objective)
    return Workload(
        spec.title,
        task,
        tuple(clients.client_ids),
        client_rate=spec.client_rate,
        initial_weights=spec.initial_weights,
        large=spec,
    )


def lazy_clients(images: Images, num_clients: int) -> data.ClientData:
    """Clients whose examples are made anew whenever they are loaded."""
    first = images.client("client0")
    specs = {
        name: data.ArraySpec(first[name].shape[1:], first[name].dtype)
        for name in ("x", "y")
    }
    ids = [f"client{i}" for i in range(num_clients)]
    return data.ClientData(ids, images.client, specs, data.Batching(BATCH_SIZE))


def _lazy(num_clients: int) -> Workload:
    images = dataclasses.replace(IMAGES["W2"], title=f"W2 with {num_clients} clients")
    return on_images(images, lazy_clients(images, num_clients))


def _poisson(population: int, expected_cohort: float) -> Workload:
    images = dataclasses.replace(IMAGES["W1"], title="W1 with Poisson cohorts")
    workload = on_images(images, lazy_clients(images, population))
    sampler = sampling.Poisson(workload.cohort, expected_cohort, seed=0)
    return dataclasses.replace(workload, sampler=sampler)


def _foreign() -> Workload:
    title = "TFF's build_weighted_fed_avg over datasets, MLP, 20 clients x 200"
    images = dataclasses.replace(
        IMAGES["W1"], title=title, num_clients=20, examples=200
    )
    return dataclasses.replace(on_images(images), datasets=True)


def _ruled(rule: Optional[aggregators.RuleSettings]) -> Workload:
    images = dataclasses.replace(IMAGES["W3"], title="W3, 100 clients", num_clients=100)
    return dataclasses.replace(on_images(images), rule=rule)


def _real(name: str, cohort: int, batching: data.Batching, rate: float) -> Workload:
    task = tasks.get(name).with_batching(batching)
    chosen = tuple(task.train.client_ids)[:cohort]
    return Workload(f"{name}, {len(chosen)} clients", task, chosen, client_rate=rate)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    **{name: functools.partial(on_images, images) for name, images in IMAGES.items()},
    **{name: functools.partial(on_large, spec) for name, spec in LARGE.items()},
    "W10": _foreign,
    "heart": lambda: _real("heart", 4, data.Batching(20), 0.1),
    "shakespeare": lambda: _real(
        "shakespeare", 100, data.Batching(50, max_examples=200), 1.0
    ),
    "flights": lambda: _real("flights", 16, data.Batching(100, max_examples=2000), 0.1),
}

# Rules over 100 clients' updates; None is a mean without a stack.
RULES: dict[str, Optional[aggregators.RuleSettings]] = {
    "no_stack": None,
    "mean": aggregators.MeanRule(),
    "trimmed_mean": aggregators.TrimmedMean(byzantine=10),
    "coordinate_median": aggregators.CoordinateMedian(),
    "krum": aggregators.Krum(byzantine=10),
}

# Workloads that only the in-process runtime executes.
ENDURANCE: dict[str, Callable[[], Workload]] = {
    "cohort_100": functools.partial(_lazy, 100),
    "cohort_5000": functools.partial(_lazy, 5000),
    "poisson": functools.partial(_poisson, 1000, 10.0),
    **{f"rule_{name}": functools.partial(_ruled, rule) for name, rule in RULES.items()},
}


def get(name: str) -> Workload:
    """The workload of that name.

    Raises:
      ValueError: there is none.
    """
    small = {name: functools.partial(on_large, spec) for name, spec in SMALL.items()}
    known: dict[str, Callable[[], Workload]] = {**WORKLOADS, **ENDURANCE, **small}
    if name not in known:
        raise ValueError(f"workload {name!r} is not one of {', '.join(known)}")
    return known[name]()
