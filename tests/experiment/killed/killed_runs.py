"""A run that is killed and started again, with something changed in between."""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
import warnings
from typing import Any

import numpy as np
import pytest

import tfl_research as tfl
from tfl_research.errors import UserError
from tfl_research.storage import provenance

CLIENTS, CLIP, NOISE, COHORT = 12, 0.1, 8.0, 6
STDDEV = CLIP * NOISE / COHORT
# Rounds 3 and 5 are after the last checkpoint.
EVERY = 2
# The activation of each model, by the function that builds the model.
_ACTIVATIONS = {}
seen: dict[str, Any] = {"key": None}


@functools.cache
def task(activation="relu", first_value=None):
    def build_model():
        import tensorflow as tf

        return tf.keras.Sequential(
            [
                tf.keras.layers.Input([2]),
                tf.keras.layers.Dense(40, activation=activation),
                tf.keras.layers.Dense(2),
            ]
        )

    generator = np.random.default_rng(3)
    clients = {}
    for number in range(CLIENTS):
        x = generator.normal(size=(6, 2)).astype(np.float32)
        clients[f"client {number}"] = {"x": x, "y": x[:, 0] > x[:, 1]}
    if first_value is not None:
        clients["client 0"]["x"][0, 0] = first_value
    found = tfl.tasks.from_arrays(clients, model=build_model)
    _ACTIVATIONS[found.build_model] = activation
    return found


@contextlib.contextmanager
def shared_process(own):
    parts = own.privacy, own.client_optimizer, own.cohorts
    seen["key"] = _ACTIVATIONS[own.task.build_model], *map(repr, parts)
    try:
        yield
    finally:
        seen["key"] = None


def experiment(own_task=None, noise=NOISE, **parts):
    return tfl.Experiment(
        own_task or task(),
        server_optimizer=tfl.SGD(1.0),
        training=tfl.Training(
            rounds=6, checkpoint_every=EVERY, evaluate_every=50, tensorboard=False
        ),
        **{
            "client_optimizer": tfl.SGD(0.1),
            "cohorts": tfl.Cohorts("poisson", cohort_size=COHORT),
            "privacy": tfl.UserLevelPrivacy(
                "gaussian", l2_norm_clip=CLIP, noise_multiplier=noise, delta=1e-3
            ),
            **parts,
        },
    )


def flat(report):
    weights = report.weights.trainable
    return np.concatenate([np.asarray(w).ravel() for w in weights])


def rounds(folder, own=None, until=6, recharge=False):
    """The model after each round of a start that is killed after `until`.

    A copy of the folder as it is at the kill is left in its place.
    """
    models, out, own = {}, io.StringIO(), own or experiment()
    with warnings.catch_warnings(), shared_process(own):
        warnings.simplefilter("ignore")
        started = own.rounds(folder, recharge=recharge, stream=out)
        with contextlib.closing(started):
            for report in started:
                models[report.round_number] = flat(report)
                if report.round_number == until:
                    killed = folder.with_name(folder.name + " as it was")
                    shutil.copytree(folder, killed)
                    break
    if until < 6:
        shutil.rmtree(folder)
        killed.rename(folder)
    return models, out.getvalue()


def difference(models, others, number):
    """Squared norm of the difference of two releases, over two noises'."""
    ours = models[number] - models[number - 1]
    theirs = others[number] - models[number - 1]
    return np.sum((ours - theirs) ** 2) / (2 * len(ours) * STDDEV**2)


def check_independent(models, others, number):
    # A chi-square of 202 degrees; clients change it by less than a tenth.
    assert 0.6 < difference(models, others, number) < 1.6


def refused(folder, own=None, recharge=False):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(UserError) as error:
        rounds(folder, own, recharge=recharge)
    text = error.value.for_command_line
    assert "\n" not in text
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    changed = {p.name for p in {*before, *after} if before.get(p) != after.get(p)}
    assert changed <= {".lock"}
    return text


def edit_source(monkeypatch):
    found = provenance.source_digests()
    monkeypatch.setattr(
        provenance,
        "source_digests",
        lambda modules=(): {**found, "tfl_research/data/batching.py": "edited"},
    )


def edit_package(monkeypatch):
    versions = {**provenance.package_versions(), "mlxtend": "0.23.5"}
    monkeypatch.setattr(provenance, "package_versions", lambda: versions)


def nothing(monkeypatch):
    pass


EDITS = {
    "model": (lambda: task("tanh"), nothing, "the computation (client computation)"),
    "data": (lambda: task(first_value=9.0), nothing, "the data differs"),
    "package": (task, edit_package, "mlxtend 0.23.4 → 0.23.5"),
    "source": (task, edit_source, "the source file tfl_research/data/batching.py"),
}
