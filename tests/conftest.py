"""Small tasks whose training can be followed with pencil and paper."""

from __future__ import annotations

import collections
import contextlib
import functools
import gc
import math
import os
import pathlib
import random
import signal
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

import numpy as np
import process_tree
import pytest
import without_tensorflow

# Test output stays readable; must be set before TensorFlow is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


# Until the tests are found: importing them makes a million objects that stay, and each
# collection of garbage would visit all.
gc.disable()


# At once, since the other conftest.py files are imported before pytest is configured.
_PLUGIN = without_tensorflow.plugin()


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # As a shell starts jobs in the background; programs that tests start would
        # ignore Ctrl-C too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if _PLUGIN is not None:
        config.pluginmanager.register(_PLUGIN)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files that start programs first, so that no worker ends with one alone.

    Leaves out the cases of long campaigns, unless they are asked for.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    if os.environ.get("TFL_CAMPAIGN") != "all":
        skip = pytest.mark.skip(reason="runs with TFL_CAMPAIGN=all")
        for item in items:
            if item.get_closest_marker("campaign"):
                item.add_marker(skip)

    def is_late(item: pytest.Item) -> bool:
        folder = item.path.parent.name
        return item.path not in slow and folder not in ("experiments", "front_door")

    items.sort(key=is_late)


def pytest_collection_finish() -> None:
    """Has collections of garbage visit only what tests make.

    Graphs are many small objects that live long, so collections are rarer too. In a
    sample of the tests, a tenth of the CPU time was collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 5, 5)
    gc.enable()


# Files of tests/experiments whose tests, or whose binaries, read exports or reports.
_READ_OUTPUTS = {
    "test_byzantine.py",
    "test_come_and_go.py",
    "test_command_lines.py",
    "test_federated.py",
    "test_privacy_audit.py",
    "test_what_leaves.py",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leaves out what takes most of the time of small runs, once it is imported.

    A process is compiled once for all engines that a test makes of it. Where a run
    would measure how to execute its clients, it takes one execution: tracing and
    compiling the others takes seconds. Runs of `experiments` write no report and no
    SavedModel.
    """
    _seed_keras()
    folder, file = item.path.parent.name, item.path.name
    every_row = os.environ.get("TFL_CONFORMANCE") == "all"
    measures = folder in ("runtime", "algorithms", *["conformance"] * every_row)
    writes = folder != "experiments" or file in _READ_OUTPUTS
    for module, name, lighter, is_whole in (
        (
            "tfl_research.runtime.compiler.measurement",
            "measured",
            _not_measured,
            measures,
        ),
        ("tfl_research.program.results.export", "export_model", _not_saved, writes),
        ("tfl_research.report", "write", _not_reported, writes),
    ):
        if module in sys.modules:
            members = vars(sys.modules[module])
            whole = members.setdefault(f"{name} outside of tests", members[name])
            members[name] = whole if is_whole else lighter
    # The package keeps what it has read of its modules.
    if "tfl_research.program" in sys.modules:
        vars(sys.modules["tfl_research.program"]).pop("export_model", None)
    tff = sys.modules.get("tensorflow_federated")
    if tff is not None and "compiled_once" not in vars(tff.backends.mapreduce):
        tff.backends.mapreduce.compiled_once = True
        for name in (
            "get_map_reduce_form_for_computation",
            "get_state_initialization_computation",
        ):
            inner = getattr(tff.backends.mapreduce, name)
            setattr(tff.backends.mapreduce, name, _once_for_each(inner))


def _seed_keras() -> None:
    """Gives each test the same initial weights of layers that have no seed.

    With some initial weights, gradients cancel until rounding is all that is left, and
    no tolerance holds. Python's own generator stays as it is: TFF's workers draw their
    ports from it.
    """
    backend = sys.modules.get("keras.src.backend")
    if backend is not None:
        backend._SEED_GENERATOR.generator = random.Random(0)


def _not_measured(*_: Any, **__: Any) -> tuple[Any, str]:
    """In the place of `measurement.measured`."""
    from tfl_research.runtime import Mode

    return Mode("folded", "graph"), "not measured, in a test"


def _not_saved(task: Any, weights: Any, path: pathlib.Path) -> None:
    """In the place of `export.export_model`."""
    path.mkdir(parents=True, exist_ok=True)


def _not_reported(folder: pathlib.Path) -> None:
    """In the place of `report.write`."""


def _once_for_each(convert: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """TFF's conversion of a computation, which is a function of its arguments."""
    # By identity: computations compare by their content, which takes long.
    kept: dict[int, tuple[Any, Any, Any]] = {}

    def converted(computation: Any, *config: Any) -> Any:
        found = kept.get(id(computation))
        if found is None or found[0]() is not computation or found[1] != config:
            result = convert(computation, *config)
            forget = functools.partial(_forget, kept, id(computation))
            found = weakref.ref(computation, forget), config, result
            kept[id(computation)] = found
        return found[2]

    return converted


def _forget(kept: dict[int, Any], key: int, reference: Any) -> None:
    if key in kept and kept[key][0] is reference:
        del kept[key]


def linear_objective():
    """Half the squared error of a linear model, so that gradients are (p - y) x."""
    import tensorflow as tf

    from tfl_research.tasks.objectives import Objective

    def example_losses(y, logits):
        return 0.5 * tf.square(logits[:, 0] - y)

    def example_sums(y, logits):
        return collections.OrderedDict(
            loss=example_losses(y, logits), examples=tf.ones_like(y)
        )

    def finalize(sums):
        return collections.OrderedDict(loss=sums["loss"] / sums["examples"])

    return Objective(example_losses, example_sums, finalize)


def linear_model_builder(weight: Sequence[float], bias: float):
    """A builder of the Keras model x @ weight + bias with these initial weights."""

    def build():
        import tensorflow as tf

        return tf.keras.Sequential(
            [
                tf.keras.layers.InputLayer((len(weight),)),
                tf.keras.layers.Dense(
                    1,
                    kernel_initializer=tf.keras.initializers.Constant(
                        np.asarray(weight, np.float32)[:, None]
                    ),
                    bias_initializer=tf.keras.initializers.Constant(bias),
                ),
            ]
        )

    return build


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Measured choices of execution are neither read from nor left to the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def _started_by_tff() -> list[str]:
    """Command lines of the workers that TFF's default context has started."""
    found = []
    for pid in process_tree.children(os.getpid()):
        with contextlib.suppress(OSError):
            line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode()
            if "--max_concurrent_computation_calls" in line:
                found.append(line.replace("\0", " "))
    return found


@pytest.fixture(scope="module", autouse=True)
def no_worker_of_tffs_own():
    """Computations run on engines: a worker of TFF's default context outlives us."""
    before = _started_by_tff()
    yield
    assert _started_by_tff() == before, "a computation ran outside of an engine"


@pytest.fixture(scope="session")
def lean_runs():
    """(patch, key): runs of one `key()` share the TFF process that they would each
    build, and outputs of a finished run are left out. None is a key of no other run."""
    from tfl_research import processes
    from tfl_research.aggregators.contract import declarations
    from tfl_research.program import RunResult, session

    def patched(patch: pytest.MonkeyPatch, key: Callable[[], Any]) -> None:
        build, built = processes.build_fed_avg, {}

        def built_once(task, *, client_work, aggregator=None, **kwargs):
            # A mechanism under a secure sum is built with and without the sum.
            mechanism = getattr(aggregator, "inner", None)
            found = key(), getattr(mechanism, "secure", None)
            if found[0] is None or found not in built:
                built[found] = build(
                    task, client_work=client_work, aggregator=aggregator, **kwargs
                )
            process = built[found]
            declared = None if aggregator is None else declarations(aggregator).plan
            plan = client_work.plan or declared
            if plan is not None:
                # The same noise and charge, in a run of another length or budget.
                assert plan.record() == process.plan.record()
                process.plan = plan
            return process

        def state_alone(ended, stop_reason, _):
            """No model, table or report is written."""
            return RunResult(
                ended.completed,
                stop_reason,
                ended.state,
                None,
                None,
                {},
                pathlib.Path(),
                epsilon=math.nan,
                evaluations={},
                metrics_csv="",
            )

        patch.setattr(processes, "build_fed_avg", built_once)
        patch.setattr(session.Session, "write_outputs", state_alone)
        patch.setattr(session.Session, "end", lambda *_: None)

    return patched


@pytest.fixture(scope="session")
def worker():
    """A TFF worker for computations that run on no engine."""
    from tfl_research.runtime import Worker

    held = Worker()
    yield held
    held.close()


@pytest.fixture(scope="module")
def workers():
    """Two TFF workers that listen on this machine."""
    from tfl_research.runtime import Worker

    with contextlib.ExitStack() as stack:
        pair = [Worker(port=0), Worker(port=0)]
        for one in pair:
            stack.callback(one.close)
            one.stub()
        yield pair


@pytest.fixture(scope="module")
def on_a_worker(worker):
    """Computations that are called run on our worker."""
    import tensorflow_federated as tff

    from tfl_research.runtime.workers.context import WorkerContext

    context = WorkerContext(worker.stub)
    with tff.framework.get_context_stack().install(context):
        yield
    context.close()


@pytest.fixture(scope="session")
def make_linear_task():
    """(clients, batching, weight, bias) -> a task of linear regression.

    `clients` is `{id: (x [n, d], y [n])}`.
    """
    from tfl_research import data
    from tfl_research.tasks.task import Card, Task

    def make(
        clients: Mapping[str, tuple[np.ndarray, np.ndarray]],
        batching: Optional[data.Batching] = None,
        weight: Sequence[float] = (0.5, -0.25),
        bias: float = 0.1,
    ) -> Task:
        arrays = {
            name: {
                "x": np.asarray(x, np.float32).reshape(-1, len(weight)),
                "y": np.asarray(y, np.float32),
            }
            for name, (x, y) in clients.items()
        }
        held = data.ClientData.from_arrays(
            arrays, batching or data.Batching(batch_size=2, shuffle=False)
        )
        return Task(
            "linear",
            Card("", "client", "", "", ""),
            held,
            held,
            None,
            linear_model_builder(weight, bias),
            linear_objective,
        )

    return make


@pytest.fixture(scope="session")
def two_clients():
    """Two clients of a linear model, with 3 and 1 examples."""
    return {
        "a": (
            np.array([[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]]),
            np.array([1.0, 0.0, 2.0]),
        ),
        "b": (np.array([[-1.0, 1.0]]), np.array([3.0])),
    }
