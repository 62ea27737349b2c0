"""What is made once: functions of the toolkit's own that hold plain values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import models, tasks
from tfl_research.models import known_builders


@pytest.fixture(autouse=True)
def nothing_known():
    known_builders.forget()
    yield
    known_builders.forget()


def build_model(*, model="mlp", seed=0):
    return tasks.get("mnist", model=model, seed=seed).build_model


def test_equal_functions_of_the_toolkit_have_one_key():
    assert known_builders.key_of(build_model()) is not None
    assert known_builders.key_of(build_model()) == known_builders.key_of(
        build_model(seed=3)
    )
    assert known_builders.key_of(build_model()) != known_builders.key_of(
        build_model(model="cnn")
    )


def holding(value):
    def build():
        return value

    build.__module__ = "tfl_research.tasks.built_in.mnist"
    return build


def test_values_of_other_types_are_not_equal():
    keys = {known_builders.key_of(holding(value)) for value in (1, True, 1.0, "1")}
    assert len(keys) == 4
    assert None not in keys


@pytest.mark.parametrize(
    "builder",
    [
        lambda: None,
        tf.keras.Sequential,
        None,
        holding([1]),
        holding(np.float32(1)),
        holding(build_model),
        models.lora(build_model, rank=2),
    ],
    ids=["own", "class", "none", "list", "array", "function", "lora"],
)
def test_nothing_is_known_of_other_functions(builder):
    assert known_builders.key_of(builder) is None


def test_models_of_seeds_are_those_that_are_built_anew():
    task = tasks.get("heart")
    spec = task.x_spec
    found = {seed: task.functional_model(seed) for seed in (3, 4)}
    assert task.functional_model(3).forward is found[3].forward
    assert found[3].forward is found[4].forward
    for seed, model in found.items():
        fresh = models.from_keras(task.build_model, spec, seed=seed)
        for name in ("initial_weights", "initial_state"):
            for ours, expected in zip(getattr(model, name), getattr(fresh, name)):
                np.testing.assert_array_equal(ours, expected)
        # Keras counts the layers of all models in the names that it gives.
        assert len(model.weight_names) == len(fresh.weight_names) > 0
        others = ("initial_weights", "initial_state", "forward", "weight_names")
        for field in dataclasses.fields(model):
            if field.name not in others:
                assert getattr(model, field.name) == getattr(fresh, field.name)


def test_few_things_are_kept(monkeypatch):
    monkeypatch.setattr(known_builders, "_MOST", 2)
    for key in "abac":
        assert known_builders.made_once(key, lambda key=key: key * 2) == key * 2
    assert known_builders.made_once("a", lambda: "kept") == "aa"
    assert known_builders.made_once("b", lambda: "anew") == "anew"


@pytest.mark.parametrize(
    "change",
    [
        lambda keras: keras.mixed_precision.set_global_policy("mixed_bfloat16"),
        lambda keras: keras.backend.set_epsilon(1e-3),
        lambda keras: keras.backend.set_image_data_format("channels_first"),
    ],
    ids=["policy", "epsilon", "axes"],
)
def test_settings_of_keras_make_another_model(change):
    builder = build_model()
    known = known_builders.key_of(builder)
    try:
        change(tf.keras)
        assert known_builders.key_of(builder) != known
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
        tf.keras.backend.set_epsilon(1e-7)
        tf.keras.backend.set_image_data_format("channels_last")
    assert known_builders.key_of(builder) == known


def test_a_users_change_of_initial_weights_stays_with_the_user():
    task = tasks.get("heart")
    for seed in (0, 0, 1, 1):
        model = task.functional_model(seed)
        assert not any((weights == 7).any() for weights in model.initial_weights)
        for weights in model.initial_weights:
            weights[...] = 7
