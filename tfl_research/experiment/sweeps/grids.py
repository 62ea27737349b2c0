"""Grids of experiments: privacy against utility, algorithms, silos and baselines.

Each function takes a base experiment and lists of values, and returns the points of a
`Sweep`. `further` has further settings by a value of the grid, such as
`{"tree": {"sampler": "shuffled"}}`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from tfl_research.data import client_splits
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import (
    RecordLevelPrivacy,
    Release,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.experiment.experiment import Experiment
from tfl_research.experiment.setup import built_task
from tfl_research.experiment.sweeps.point import Point
from tfl_research.program.evaluation.selection import metric_weights
from tfl_research.tasks.metrics import metric_of_column

# Further settings by a value of the grid.
Further = Mapping[str, Mapping[str, Any]]
NATURAL = "natural"
_PRIVACY_SWEPT = ("mechanism", "target_epsilon", "noise_multiplier")


def check_base(base: Experiment) -> None:
    """Refuses a run seed, which would give the private runs of a grid the same noise.

    Raises:
      SettingError: the base has a run seed.
    """
    if base.training.run_seed is not None:
        raise SettingError(
            "--run_seed: runs with one run seed have the same noise, so the difference "
            "of two models would have none; leave it out, and each run draws its own "
            "seed"
        )


def own_settings(given: Optional[Mapping[str, Any]], *swept: str) -> dict[str, Any]:
    """Checks further settings of some points, which the grid must not set itself.

    Otherwise a point would have other values than the tables say.

    Args:
      given: values by the settings' names, or None.
      swept: names of the settings that the grid sets beside the seed.

    Raises:
      SettingError: the grid sets one of these settings.
    """
    for name in ("seed", *swept):
        if name in (given or {}):
            raise SettingError(
                f"--{name}: the grid sets it; leave it out of the further settings"
            )
    return dict(given or {})


def check_higher_is_better(base: Experiment) -> None:
    """Refuses a selection metric that falls as models get better.

    Raises:
      SettingError: lower values of the selection metric are better.

    Example:
      >>> from tfl_research.experiment import sweeps
      >>> base = tfl.Experiment("heart", training=tfl.Training(selection_metric="loss"))
      >>> sweeps.check_higher_is_better(base)
      Traceback (most recent call last):
          ...
      tfl_research.errors.SettingError: selection_metric=loss: ...
    """
    names = metric_weights(base.training.selection_metric or "accuracy")
    if any(metric_of_column(name, {}).higher_is_better is False for name in names):
        raise base.training.refused(
            "selection_metric",
            "the target needs a metric of which higher values are better; give "
            "accuracy or auc",
        )


def privacy_utility(
    base: Experiment,
    *,
    mechanisms: Sequence[str],
    epsilons: Sequence[float],
    seeds: Sequence[int],
    further: Optional[Further] = None,
) -> list[Point]:
    """Makes a grid of every mechanism at every ε, and runs without privacy.

    Args:
      base: an experiment with user-level privacy, whose ε the grid sets.
      mechanisms: names of mechanisms.
      epsilons: target ε of the runs.
      seeds: seeds of the runs.
      further: further settings by mechanism.

    Raises:
      SettingError: the base has no user-level privacy, or a value is refused.

    Example:
      >>> from tfl_research.experiment import sweeps
      >>> base = tfl.Experiment("mnist", privacy=tfl.UserLevelPrivacy(target_epsilon=1))
      >>> points = sweeps.privacy_utility(
      ...     base,
      ...     mechanisms=["gaussian", "tree"],
      ...     epsilons=[2, 8],
      ...     seeds=[0],
      ...     further={"tree": {"sampler": "min_separation"}},
      ... )
      >>> [point.name for point in points]
      ['not_private-0', 'gaussian-2-0', 'gaussian-8-0', 'tree-2-0', 'tree-8-0']
      >>> sweep = tfl.Sweep("results/utility", points)  # Its run() trains them all.
    """
    check_base(base)
    if not isinstance(base.privacy, UserLevelPrivacy):
        raise SettingError(
            "the base of a privacy-utility grid must have UserLevelPrivacy, got "
            f"{base.privacy!r}"
        )
    public = dataclasses.replace(
        base,
        name="fed_avg",
        privacy=None,
        release=Release(),
        cohorts=base.resolved_cohorts,
        weighting=Weighting("uniform"),
    )
    points = []
    for seed in seeds:
        points.append(
            Point.changed(
                f"not_private-{seed}",
                public,
                {"mechanism": "none", "target_epsilon": "inf", "seed": seed},
                seed=seed,
            )
        )
        for name in mechanisms:
            own = own_settings((further or {}).get(name), *_PRIVACY_SWEPT)
            for epsilon in epsilons:
                points.append(
                    Point.changed(
                        f"{name}-{epsilon:g}-{seed}",
                        base,
                        {"mechanism": name, "target_epsilon": epsilon, "seed": seed},
                        mechanism=name,
                        target_epsilon=epsilon,
                        noise_multiplier=None,
                        seed=seed,
                        **own,
                    )
                )
    return points


def heterogeneity(
    base: Experiment,
    *,
    algorithms: Sequence[str],
    alphas: Sequence[Union[float, str]],
    seeds: Sequence[int],
    further: Optional[Further] = None,
) -> list[Point]:
    """Makes a grid of algorithms over degrees of label skew.

    Points that share compiled programs are neighbours.

    Args:
      base: an experiment whose algorithm and partition the grid sets.
      algorithms: names of algorithms.
      alphas: concentrations of the Dirichlet distribution, as numbers or text, or
        "natural" for the task's own clients.
      seeds: seeds of the runs.
      further: further settings by algorithm.

    Raises:
      SettingError: a value is refused.

    Example:
      >>> from tfl_research.experiment import sweeps
      >>> points = sweeps.heterogeneity(
      ...     tfl.Experiment("mnist"),
      ...     algorithms=["fed_avg", "scaffold"],
      ...     alphas=[0.1, 1],
      ...     seeds=[0],
      ... )
      >>> [point.name for point in points]
      ['fed_avg-0.1-0', 'fed_avg-1-0', 'scaffold-0.1-0', 'scaffold-1-0']
    """
    check_base(base)
    points = []
    for name in algorithms:
        own = own_settings(
            (further or {}).get(name), "algorithm", "partition", "dirichlet_alpha"
        )
        for alpha in alphas:
            shown = alpha if isinstance(alpha, str) else f"{alpha:g}"
            skew: dict[str, Any] = {}
            if shown != NATURAL:
                skew = {"partition": "dirichlet", "dirichlet_alpha": float(alpha)}
            for seed in seeds:
                labels = {"algorithm": name, "alpha": shown, "seed": seed}
                changes = {"algorithm": name, "seed": seed, **skew, **own}
                folder = f"{name}-{shown}-{seed}"
                points.append(Point.changed(folder, base, labels, **changes))
    return points


def cross_silo(
    base: Experiment,
    *,
    algorithms: Sequence[str],
    record_epsilons: Sequence[float],
    seeds: Sequence[int],
    further: Optional[Further] = None,
    record_further: Optional[Mapping[str, Any]] = None,
) -> list[Point]:
    """Makes a grid of federation across silos, each silo alone, and pooled data.

    Args:
      base: an experiment in which every silo takes part in every round.
      algorithms: names of algorithms.
      record_epsilons: target ε of runs with record-level privacy.
      seeds: seeds of the runs.
      further: further settings by algorithm.
      record_further: further settings of the runs with record-level privacy.

    Raises:
      SettingError: a value is refused.

    Example:
      >>> from tfl_research.experiment import sweeps
      >>> points = sweeps.cross_silo(
      ...     tfl.Experiment("heart", cohorts=tfl.Cohorts("full")),
      ...     algorithms=["fed_avg", "scaffold"],
      ...     record_epsilons=[4],
      ...     seeds=[0],
      ... )
      >>> [point.name for point in points][:4]
      ['fed_avg-0', 'scaffold-0', 'record_dp-4-0', 'only_0-0']
      >>> points[-1].labels
      {'method': 'pooled', 'seed': 0}
    """
    check_base(base)
    federated = dataclasses.replace(base, name="federated")
    # Runs with record-level privacy draw records at random, and have no local epochs.
    private = dataclasses.replace(
        base,
        name="record_dp_fed_avg",
        privacy=RecordLevelPrivacy(record_target_epsilon=1.0),
    ).with_settings(
        client_epochs=None,
        batch_size=None,
        max_examples_per_client=None,
    )
    # In runs of a single silo or of pooled data, no silo is down.
    alone = dataclasses.replace(base, name="silo_baseline").with_settings(
        silo_drop_out=0.0, minimum_clients=1
    )
    record_own = own_settings(record_further, "record_target_epsilon")
    silos = built_task(base).train.client_ids
    points = []
    for seed in seeds:
        for name in algorithms:
            own = own_settings((further or {}).get(name), "algorithm")
            labels = {"method": name, "seed": seed}
            changes = {"algorithm": name, "seed": seed, **own}
            points.append(Point.changed(f"{name}-{seed}", federated, labels, **changes))
        for epsilon in record_epsilons:
            labels = {"method": f"fed_avg, ε {epsilon:g}", "seed": seed}
            changes = {"record_target_epsilon": epsilon, "seed": seed, **record_own}
            folder = f"record_dp-{epsilon:g}-{seed}"
            points.append(Point.changed(folder, private, labels, **changes))
        for number, name in enumerate((*silos, client_splits.POOLED)):
            pooled = name == client_splits.POOLED
            labels = {"method": "pooled" if pooled else f"only {name}", "seed": seed}
            folder = f"pooled-{seed}" if pooled else f"only_{number}-{seed}"
            changes = {"train_on": name, "seed": seed}
            points.append(Point.changed(folder, alone, labels, **changes))
    return points
