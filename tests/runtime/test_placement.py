"""Where a round's programs are executed.

A process without a GPU stands for one with two: TensorFlow divides its CPU into three,
of which the last two are called GPUs.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from toy_processes import summing_process

import tfl_research as tfl
from tfl_research import runtime
from tfl_research.errors import UserError
from tfl_research.experiment.own_process import execution as own_execution
from tfl_research.experiment.running import execution
from tfl_research.runtime import placement
from tfl_research.runtime.compiler import choice, choice_cache
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.kept_execution import Execution, KeptExecution

_TWO_GPUS = """
import json, pathlib, sys
import tensorflow as tf
from tensorflow.python.framework import config

[cpu] = tf.config.list_physical_devices("CPU")
own = tf.config.LogicalDeviceConfiguration
tf.config.set_logical_device_configuration(cpu, [own(), own(), own()])
visible, logical = tf.config.get_visible_devices, tf.config.list_logical_devices
tf.config.get_visible_devices = lambda kind: visible("CPU")
tf.config.list_logical_devices = lambda kind: logical("CPU")[1:]
tf.config.experimental.set_memory_growth = lambda device, value: None
tf.config.experimental.get_device_details = lambda device: {"device_name": "half"}

import tfl_research as tfl
from tfl_research.runtime.rounds import local_rounds

places = []
run_chunk = local_rounds.run_chunk

def noted(*arguments):
    part = run_chunk(*arguments)
    places.extend(tensor.device[-5:] for tensor in part[:1])
    return part

local_rounds.run_chunk = noted
told = {}
privacy = tfl.UserLevelPrivacy(noise_multiplier=1.0)
for accelerator in ("none", "gpu"):
    places.clear()
    result = tfl.Experiment(
        "heart",
        privacy=privacy,
        runtime=tfl.Runtime(
            accelerator=accelerator, chunk_clients=1, client_execution="folded_graph"
        ),
        training=tfl.Training(rounds=3, run_seed="7"),
    ).run(pathlib.Path(sys.argv[1]) / accelerator)
    metrics = (result.path / "metrics.csv").read_text().splitlines()
    columns = metrics[0].split(",")
    shown = [i for i, name in enumerate(columns) if "loss" in name or "acc" in name]
    told[accelerator] = {
        "places": sorted(set(places)),
        "metrics": [[line.split(",")[i] for i in shown] for line in metrics],
        "kept": json.loads((result.path / "runtime.json").read_text()),
        "deterministic": config.is_op_determinism_enabled(),
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
    }
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("placement")
    done = subprocess.run(
        [sys.executable, "-c", _TWO_GPUS, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_cpu_alone(told):
    assert told["none"]["places"] == ["CPU:0"]
    assert "accelerator" not in told["none"]["kept"]
    assert not told["none"]["deterministic"]


def test_gpus_take_turns(told):
    assert told["gpu"]["places"] == ["CPU:1", "CPU:2"]
    assert told["gpu"]["kept"]["accelerator"] == "gpu"
    assert told["gpu"]["kept"]["parallel"] == 2


def test_the_same_results_and_noise(told):
    assert len(told["gpu"]["metrics"]) == 4
    assert told["gpu"]["metrics"] == told["none"]["metrics"]


def test_deterministic_and_whole_float32(told):
    assert told["gpu"]["deterministic"]
    assert not told["gpu"]["tf32"]


@pytest.mark.parametrize(
    ("driver", "packages", "hidden", "words"),
    [
        (False, True, None, "has no NVIDIA driver"),
        (True, False, None, "run scripts/install_gpu"),
        (True, True, "", "CUDA_VISIBLE_DEVICES='' hides the GPUs"),
        (True, True, None, "could not load CUDA 11.8"),
    ],
)
def test_no_gpu(monkeypatch, tmp_path, driver, packages, hidden, words):
    file = tmp_path / "version"
    if driver:
        file.write_text("525")
    monkeypatch.setattr(placement, "_DRIVER", file)
    found = object() if packages else None
    monkeypatch.setattr(placement.importlib.util, "find_spec", lambda name: found)
    monkeypatch.setattr(placement.tf.config, "get_visible_devices", lambda kind: [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(
        UserError, match="accelerator=gpu: TensorFlow finds no GPU"
    ) as e:
        placement.prepare("gpu")
    assert words in str(e.value)
    assert placement.tf.config.experimental.tensor_float_32_execution_enabled()


def test_a_process_that_began_without_gpus(monkeypatch):
    config = placement.tf.config
    monkeypatch.setattr(config, "get_visible_devices", lambda kind: [])
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: ["GPU:0"])
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(UserError, match="this process began without GPUs"):
        placement.prepare("gpu")


@pytest.mark.parametrize("value", ["false", "0", "False"])
def test_xla_flags_that_make_gpus_round_at_random(monkeypatch, value):
    flags = f"--xla_foo=1 --xla_gpu_deterministic_ops={value}"
    monkeypatch.setenv("XLA_FLAGS", flags)
    with pytest.raises(UserError, match=r"switches .*xla_gpu_deterministic_ops off"):
        placement.prepare("gpu")
    assert os.environ["XLA_FLAGS"] == flags


@pytest.fixture
def _has_a_gpu(monkeypatch):
    in_process = importlib.import_module("tfl_research.runtime.in_process")
    monkeypatch.setattr(
        in_process, "placement", lambda name: placement.Placement(name, ["CPU:0"])
    )


@pytest.mark.usefixtures("_has_a_gpu")
def test_a_process_that_no_gpu_executes_is_refused(tmp_path):
    @tff.tensorflow.computation(tff.SequenceType(np.int32))
    def _count(numbers):
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer([1, 2], [1, 2]), 0
        )
        return numbers.reduce(0, lambda total, n: total + table.lookup(n))

    @tff.federated_computation
    def initialize():
        return tff.federated_value(0, tff.SERVER)

    clients = tff.FederatedType(tff.SequenceType(np.int32), tff.CLIENTS)

    @tff.federated_computation(initialize.type_signature.result, clients)
    def next_round(state, values):
        return state, tff.federated_sum(tff.federated_map(_count, values))

    process = tff.templates.IterativeProcess(initialize, next_round)
    kept = tmp_path / "runtime.json"
    with pytest.raises(runtime.UnsupportedProcess, match="leave the accelerator out"):
        runtime.in_process(process, accelerator="gpu", choice_file=kept)
    assert not kept.exists()


@pytest.mark.parametrize("own_process", [False, True])
def test_nothing_is_read_or_written_where_no_gpu_is(monkeypatch, tmp_path, own_process):
    monkeypatch.setattr(placement.tf.config, "get_visible_devices", lambda kind: [])
    monkeypatch.setenv("XLA_FLAGS", "")
    module = own_execution if own_process else execution.setups
    monkeypatch.setattr(module, "prepare", lambda experiment: pytest.fail("too late"))
    kind = tfl.ProcessExperiment if own_process else tfl.Experiment
    parts = {"runtime": tfl.Runtime(accelerator="gpu")}
    if own_process:
        process = summing_process(tff.federated_sum)
        experiment = kind(process, {"a": np.int32(1)}, **parts)
    else:
        experiment = kind("heart", **parts)
    with pytest.raises(UserError, match="TensorFlow finds no GPU"):
        experiment.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_accelerator():
    with pytest.raises(ValueError, match=r"one of .*'tpu'"):
        placement.placement("tpu")
    with pytest.raises(ValueError, match=r"one of .*'tpu'"):
        placement.prepare("tpu")


def test_another_accelerator_does_not_go_on(tmp_path):
    keep = KeptExecution(tmp_path / "runtime.json", b"")
    keep.write(Execution(Mode(), 2, "given", "gpu"))
    kept = keep.read()
    assert kept == Execution(Mode(), 2, "given", "gpu")
    keep.check(kept, "gpu", 2)
    with pytest.raises(UserError, match="with accelerator=gpu"):
        keep.check(kept, "none", 2)


def test_on_a_gpu_xla_compiles_convolutions_too():
    work = types.SimpleNamespace(op_types={"Conv2D"})
    programs = types.SimpleNamespace(not_for_xla=[], work=work)
    graph, xla = Mode("folded", "graph"), Mode("folded", "xla")
    assert choice.candidates(programs) == [graph]
    assert choice.candidates(programs, "1 x A") == [xla, graph]


def test_each_kind_of_gpu_is_measured():
    keys = {choice_cache.key("work", [(1,)], kind) for kind in ("", "A", "B")}
    assert len(keys) == 3
    # A file of before knows the CPU's choices.
    assert choice_cache.key("work", [(1,)], "") == choice_cache.key("work", [(1,)])


def test_install_gpu_names_what_the_lock_has():
    root = pathlib.Path(__file__).resolve().parents[2]
    lock = (root / "requirements-gpu.lock").read_text()
    extra = (root / "setup.py").read_text().partition('"gpu": [')[2].partition("]")[0]
    wanted = [line.strip().strip('",') for line in extra.splitlines() if "==" in line]
    assert len(wanted) == 10
    for requirement in wanted:
        assert f"\n{requirement} ;" in lock
