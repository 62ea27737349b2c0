"""Private runs on neighbouring data differ in nothing that ε does not cover.

Each test runs an experiment on two populations that differ in one client, and compares
every file and every printed line. On data that are not public, no exact output is
there at all.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import outputs_of_runs
import pairs
import pytest

import tfl_research as tfl
from tfl_research import outputs
from tfl_research.experiment import setup
from tfl_research.experiment.private.releases import released
from tfl_research.privacy import MECHANISMS, mechanisms
from tfl_research.program.each_round import divergence

pytestmark = pytest.mark.slow

TRAINING = tfl.Training(
    rounds=4, evaluate_every=2, checkpoint_every=2, run_seed="1234", progress_bar=False
)
# No time goes into the choice of an execution.
FAST = tfl.Runtime(client_execution="folded_graph")
POISSON = tfl.Cohorts("poisson", cohort_size=5)
FULL = tfl.Cohorts("full")
APART = tfl.Cohorts("min_separation", cohort_size=2)
# A mechanism by name: its settings, cohorts, and weights of clients.
PARTS: dict[str, tuple[Any, tfl.Cohorts, tfl.Weighting]] = {
    "gaussian": (mechanisms.Gaussian(), POISSON, tfl.Weighting()),
    "adaptive_gaussian": (
        mechanisms.AdaptiveGaussian(clipped_count_stddev=1.0),
        FULL,
        tfl.Weighting(),
    ),
    "bounded_weight": (
        mechanisms.BoundedWeight(expected_client_weight=0.9),
        POISSON,
        tfl.Weighting("capped", weight_cap=10),
    ),
    "tree": (mechanisms.Tree(restart_every=3), APART, tfl.Weighting()),
    "banded_matrix": (mechanisms.BandedMatrix(bands=2), APART, tfl.Weighting()),
    "discrete_gaussian": (mechanisms.DiscreteGaussian(), FULL, tfl.Weighting()),
    "skellam": (
        mechanisms.Skellam(),
        tfl.Cohorts("fixed", cohort_size=4),
        tfl.Weighting(),
    ),
    "local_gaussian": (mechanisms.LocalGaussian(), POISSON, tfl.Weighting()),
}


def task(data: pairs.Clients) -> tfl.tasks.Task:
    return tfl.tasks.from_arrays(data, model=pairs.build_model, held_out=0.2)


def user_level(name: str, data: pairs.Clients, **more: Any) -> tfl.Experiment:
    mechanism, cohorts, weighting = PARTS[name]
    parts: dict[str, Any] = {
        "cohorts": cohorts,
        "weighting": weighting,
        "privacy": tfl.UserLevelPrivacy(mechanism, noise_multiplier=1.0, delta=1e-2),
        "training": TRAINING,
        "runtime": FAST,
        **more,
    }
    return tfl.Experiment(task(data), **parts)


# Words in front of a number on the screen, and the column that the number is of.
_ON_SCREEN = {
    "loss": "train_loss",
    "accuracy": "train_accuracy",
    "cohort": "cohort_size",
    **{
        f"{words} {metric}": f"{column}_{metric}"
        for words, column in (("eval", "eval"), ("held-out", "held_out"))
        for metric in ("loss", "accuracy", "auc")
    },
    **{
        f"best {column}_{metric}": f"{column}_{metric}"
        for column in ("eval", "held_out", "private")
        for metric in ("loss", "accuracy", "auc")
    },
    "private accuracy": "private_accuracy",
}
# Of summary.json: what is no metric.
_SUMMARY = (
    *("completed_rounds", "planned_rounds", "stop_reason", "best.selected_by"),
    *("epsilon", "best", "no_best", "untrained"),
)
# What the test gives both runs differently, and the digest of the record that has it.
_GIVEN = ("hparams.json: hparams.data_dir", "hparams.json: digest")
# What follows from the choice of the best round.
_OF_THE_CHOICE = ("best.value", "best.round", "best.epsilon")
_CHOSEN = ("in round", "best model of round")
# Random numbers of a run's ledger: the run's id, the salt, and hashes over them.
_RANDOM = ("ledger.jsonl", "run_id", "shared.jsonl")


def kind_of(item: str, release: outputs.Release) -> str:
    """Returns the class of the column or file that an item belongs to."""
    name, _, part = item.partition(": ")
    if name == "screen":
        for words, column in sorted(_ON_SCREEN.items(), key=lambda w: -len(w[0])):
            if part == words or part.endswith(" " + words):
                return release.column(column).kind
        return outputs.DERIVED if part.endswith(_CHOSEN) else outputs.PUBLIC
    if name == "metrics.csv":
        return release.column(part).kind
    if name == "logdir":
        column = part.removeprefix("round/").replace("/", "_")
        return release.column(column).kind
    if name == "summary.json":
        if part in _SUMMARY:
            return outputs.PUBLIC
        if part in _OF_THE_CHOICE:
            return outputs.DERIVED
        return release.column(part.partition(".")[2]).kind
    if name.startswith(_RANDOM) or item in _GIVEN:
        return outputs.PUBLIC
    if "clients.csv" in name:
        return outputs.file(f"{name}:{part}" if part == "held_out" else name).kind
    top = name.partition("/")[0]
    return outputs.file(name if top == name else top).kind


def check(one: dict[str, Any], other: dict[str, Any], release: outputs.Release) -> None:
    """Fails if the runs differ in more than is private, or gave out what is exact."""
    exact = [n for n in {*one, *other} if kind_of(n, release) == outputs.EXACT]
    assert not exact, f"given out though not covered by ε: {sorted(exact)}"
    allowed = (outputs.PRIVATE, outputs.SECRET, outputs.DERIVED)
    wrong = {
        name: (one.get(name), other.get(name))
        for name in outputs_of_runs.differing(one, other)
        if kind_of(name, release) not in allowed
        and not name.startswith(_RANDOM)
        and name not in _GIVEN
    }
    assert not wrong, f"differs though it is not private: {wrong}"


def release_of(experiment: tfl.Experiment) -> outputs.Release:
    return released.release_of(setup.prepare(experiment))


@pytest.fixture(scope="module")
def unchanged(given_out: Any) -> Callable[[str], dict[str, Any]]:
    """What a mechanism's run on the unchanged clients gives out, by its name."""

    @functools.cache
    def of(name: str) -> dict[str, Any]:
        found: dict[str, Any] = given_out(user_level(name, pairs.clients()))
        return found

    return of


@pytest.mark.parametrize("name", PARTS)
def test_of_every_mechanism(given_out: Any, unchanged: Any, name: str) -> None:
    one, other = map(
        functools.partial(user_level, name), pairs.neighbours(pairs.emptied)
    )
    check(unchanged(name), given_out(other), release_of(one))


def test_every_mechanism_is_tried() -> None:
    assert set(PARTS) == {
        name for name in MECHANISMS.names() if MECHANISMS.origin(name) is None
    }


@pytest.mark.parametrize("change", [c for c in pairs.CHANGES if c != "emptied"])
def test_of_every_change(given_out: Any, unchanged: Any, change: str) -> None:
    one, other = map(
        functools.partial(user_level, "gaussian"),
        pairs.neighbours(pairs.CHANGES[change]),
    )
    check(unchanged("gaussian"), given_out(other), release_of(one))


@pytest.mark.parametrize(
    "more",
    [
        {"evaluation_noise_multiplier": 2.0},
        {"selection_epsilon": 0.5},
        {"evaluation_noise_multiplier": 2.0, "selection_epsilon": 0.5},
    ],
    ids=lambda more: " and ".join(more),
)
def test_of_private_metrics(given_out: Any, more: dict[str, float]) -> None:
    one, other = (
        user_level("gaussian", data, release=tfl.Release(**more))
        for data in pairs.neighbours(pairs.flipped)
    )
    check(given_out(one), given_out(other), release_of(one))


def record_level(data: pairs.Clients) -> tfl.Experiment:
    return tfl.Experiment(
        task(data),
        privacy=tfl.RecordLevelPrivacy(
            record_noise_multiplier=1.0, record_batch_size=4, record_delta=1e-2
        ),
        batches=tfl.Batches(client_steps=2),
        training=TRAINING,
        runtime=FAST,
    )


def test_of_a_record(given_out: Any) -> None:
    one, other = map(record_level, pairs.neighbours(pairs.other_record))
    check(given_out(one), given_out(other), release_of(one))


@pytest.mark.parametrize("name", ["heart", "mnist", "shakespeare"])
def test_of_kinds_of_data(given_out: Any, name: str) -> None:
    """Tables, images and text of a user's own, in the form of a built-in task."""
    options = {"mnist": {"num_clients": 20}}.get(name, {})
    built = tfl.tasks.get(name, **options)

    def experiment(given: tfl.tasks.Task) -> tfl.Experiment:
        return tfl.Experiment(
            given,
            cohorts=tfl.Cohorts("poisson", cohort_size=2),
            privacy=tfl.UserLevelPrivacy(noise_multiplier=1.0, delta=1e-3),
            release=tfl.Release(public_schema=name == "shakespeare"),
            training=dataclasses.replace(
                TRAINING, rounds=2, max_evaluation_examples=50
            ),
            runtime=FAST,
        )

    one, other = map(
        experiment, (pairs.own(built, changed=False), pairs.own(built, changed=True))
    )
    assert release_of(one).withholds
    check(given_out(one), given_out(other), release_of(one))


def test_of_files_with_a_schema(given_out: Any, tmp_path: pathlib.Path) -> None:
    def experiment(change: Any) -> tfl.Experiment:
        folder = pairs.written(tmp_path / change.__name__, change)
        return tfl.Experiment(
            tfl.tasks.get(
                "csv", data_dir=str(folder), label_column="y", held_out_clients=2
            ),
            cohorts=POISSON,
            privacy=tfl.UserLevelPrivacy(noise_multiplier=1.0, delta=1e-2),
            training=TRAINING,
            runtime=FAST,
        )

    one, other = experiment(pairs.unchanged), experiment(pairs.flipped)
    check(given_out(one), given_out(other), release_of(one))


class TestTheComparisonItself:
    """The comparison fails where a fix is taken out."""

    def test_without_the_filter(
        self, given_out: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, other = (
            user_level("gaussian", data) for data in pairs.neighbours(pairs.overflowing)
        )
        release = release_of(one)
        monkeypatch.setattr(released, "release_of", lambda setup: outputs.Release())
        # The client's loss is among the outputs now. Whether the loss is finite depends
        # on the noise, whose key covers the sources.
        monkeypatch.setattr(divergence, "LARGEST_LOSS", float("inf"))
        first, second = given_out(one), given_out(other)
        with pytest.raises(AssertionError, match="not covered by ε") as found:
            check(first, second, release)
        for name in ("excluded_clients", "cohort_size", "examples", "bytes_up"):
            assert f"metrics.csv: {name}" in str(found.value)
        for name in ("clients.csv: eval", "screen: eval loss", "logdir: train/loss"):
            assert name in str(found.value)

    def test_a_public_item_that_differs(self) -> None:
        release = outputs.Release(is_private=True, withholds=True)
        one, other = {"hparams.json: a": "1"}, {"hparams.json: a": "2"}
        check(one, one, release)
        with pytest.raises(AssertionError, match="not private"):
            check(one, other, release)

    def test_a_file_that_nobody_classified(self) -> None:
        release = outputs.Release(is_private=True, withholds=True)
        with pytest.raises(AssertionError, match="not covered by ε"):
            check({"new.txt": "1"}, {"new.txt": "1"}, release)
