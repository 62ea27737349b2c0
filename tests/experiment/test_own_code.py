"""A sweep of the toolkit's own code alone sets TensorFlow's global seed less often."""

from __future__ import annotations

import dataclasses
import io

import pytest
import tensorflow as tf

import tfl_research as tfl
from tfl_research import registry
from tfl_research.experiment.sweeps import Point, Sweep
from tfl_research.experiment.sweeps.point import by_own_code
from tfl_research.models import global_seed, known_builders
from tfl_research.tasks import shared

BASE = tfl.Experiment("heart", training=tfl.Training(rounds=1, print_every=2))


class Watcher(tfl.Callback):
    """Does nothing."""


def sets_seeds_at_once(experiment):
    """Whether a seed that is left inside is set inside, as if a model was built."""
    tf.random.set_seed(7)
    expected = float(tf.random.uniform([]))
    tf.random.set_seed(9)
    with by_own_code(experiment):
        global_seed.leave(7)
        found = float(tf.random.uniform([])) == expected
    global_seed.settle()
    return found


def test_code_of_a_users_own_finds_each_seed():
    assert not sets_seeds_at_once(BASE)
    assert sets_seeds_at_once(dataclasses.replace(BASE, callbacks=[Watcher()]))
    own = registry.Registry("loss")
    own.register("mine", sets_seeds_at_once)
    assert sets_seeds_at_once(BASE)
    own.unregister("mine")
    assert not sets_seeds_at_once(BASE)


def test_what_an_earlier_point_left_is_set_before_a_users_code():
    tf.random.set_seed(7)
    expected = float(tf.random.uniform([]))
    with by_own_code(BASE):
        global_seed.leave(7)
    with by_own_code(dataclasses.replace(BASE, callbacks=[Watcher()])):
        assert float(tf.random.uniform([])) == expected


@pytest.mark.slow
def test_later_points_set_no_seed_until_the_sweep_ends(tmp_path, monkeypatch):
    points = [
        Point.changed(f"{rate}", BASE, {}, client_learning_rate=rate)
        for rate in (0.1, 0.2)
    ]
    set_seed, seeds = tf.keras.utils.set_random_seed, []

    def recorded(seed):
        seeds.append(seed)
        set_seed(seed)

    known_builders.forget()
    monkeypatch.setattr(tf.keras.utils, "set_random_seed", recorded)
    with shared.within_sweep():
        Sweep(tmp_path / "first", points[:1]).run(io.StringIO())
        assert seeds
        seeds.clear()
        Sweep(tmp_path / "second", points[1:]).run(io.StringIO())
        assert seeds == []
    assert seeds == [0]
