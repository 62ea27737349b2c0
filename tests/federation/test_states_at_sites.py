"""Evaluations with clients' own statistics, which their sites keep."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import tensorflow as tf
from federations import running

import tfl_research as tfl
from tfl_research import sampling, tasks
from tfl_research.experiment.at_sites import compare
from tfl_research.experiment.at_sites.site import SiteWork
from tfl_research.federation.wire.handler import Refused
from tfl_research.tasks import registry
from tfl_research.tasks.built_in import csv_silos

pytestmark = pytest.mark.slow

TASK = "silos_with_statistics"
# The rounds in which the report of west comes too late.
LATE = (2, 6)


def normalized():
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input([7]),
            layers.Dense(3),
            layers.BatchNormalization(momentum=0.5),
            layers.Dense(1),
        ]
    )


def with_statistics(task):
    return dataclasses.replace(task, build_model=normalized, non_trainable="local")


def build(*, seed: int = 0, data_dir: str, label_column: str) -> tasks.Task:
    options = {"seed": seed, "data_dir": data_dir, "label_column": label_column}
    return with_statistics(csv_silos.build(**options))


def blueprint(*, seed: int = 0, data_dir: str, label_column: str) -> tasks.Task:
    options = {"seed": seed, "data_dir": data_dir, "label_column": label_column}
    return with_statistics(csv_silos.blueprint(**options))


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    tasks.register(TASK, build)
    registry.BLUEPRINTS.register(TASK, blueprint)
    try:
        folder = tmp_path_factory.mktemp("federation")
        with running(folder, TASK, ("north", "east", "west")) as federation:
            yield federation
    finally:
        registry.BLUEPRINTS.unregister(TASK)
        tasks.unregister(TASK)


class Late:
    """A site whose reports of some rounds do not reach the coordinator in time."""

    def __init__(self, work):
        self._work = work

    def handle(self, request):
        reply = self._work.handle(request)
        is_report = request.kind == "round" and "forgotten" not in reply.header
        if is_report and request.integer("round") in LATE:
            raise Refused("too late")
        return reply


class Copy(tfl.Callback):
    """Copies the run's folder after a round, as a kill leaves it."""

    def __init__(self, source, target, after):
        self._paths, self._after = (source, target), after

    def on_round(self, report):
        if report.round_number == self._after:
            shutil.copytree(*self._paths)


def experiment(federation, callbacks=(), **training):
    return federation.experiment(
        training={"evaluate_every": 1, **training},
        execution="separate_graph",
        callbacks=callbacks,
    )


def test_only_states_that_count_are_evaluated(federation, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    training = {"rounds": 6, "checkpoint_every": 4}
    site = SiteWork(federation.site_file("west"), federation.lines.append)
    federation.stop("west")
    federation.start("west", Late(site))
    copy = Copy(whole, killed, after=6)
    first = experiment(federation, [copy], **training).run(whole)
    sample = sampling.Full.sample

    def without(self, number):
        clients = sample(self, number)
        return tuple(i for i in clients if i != "west" or number not in LATE)

    with monkeypatch.context() as changed:
        changed.setattr(sampling.Full, "sample", without)
        simulated = compare.simulate(
            whole,
            tmp_path / "simulation",
            compiler="graph",
            site_of=federation.state_folders,
            changes={"data_dir": str(federation.folder / "all")},
        )
    assert compare.differences(whole, simulated) == []

    # Rounds 5 and 6 are repeated, with the states of their time.
    federation.stop("west")
    federation.start("west")
    second = experiment(federation, **training).run(killed)
    assert second.metrics["eval_loss"].notna().all()
    assert compare.differences(first.path, second.path) == []


@pytest.mark.campaign
def test_a_state_that_is_lost_is_said(federation, tmp_path, capsys):
    steps = experiment(federation, rounds=3).rounds(tmp_path / "run")
    next(steps)
    run = (tmp_path / "run" / "federation" / "run_id").read_text().strip()
    federation.stop("east")
    folder = federation.state_folders["east"] / "runs" / run
    (folder / "client_states.sqlite").unlink()
    federation.start("east")
    report = next(steps)
    steps.close()
    printed = capsys.readouterr()
    reason = "the run goes on from the state of client 'east' after round 1"
    assert reason in printed.err
    refused = f"site east refuses: {reason}"
    assert f"round 2: the model is not evaluated: {refused}" in printed.out
    assert report.metrics["cohort_size"] == 2
    assert any(reason in line for line in federation.lines)
