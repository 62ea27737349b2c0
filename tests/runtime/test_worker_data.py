"""Workers read clients' examples from a folder, and compute what shipping gives."""

import hashlib
import itertools
import json
import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from toy_processes import (
    OURS,
    cohorts_of,
    leaves,
    make_task,
    rounds_of,
    sgd,
    summing_process,
    tff_processes,
)

from tfl_research import data, processes, runtime
from tfl_research.aggregators import CoordinateMedian, StackingFactory
from tfl_research.data import ArraySpec
from tfl_research.errors import UserError
from tfl_research.runtime import Mode
from tfl_research.runtime.workers import example_files
from tfl_research.runtime.workers.context import WorkerContext
from tfl_research.runtime.workers.example_files import ExampleFiles
from tfl_research.runtime.workers.reading import DataFileError, Reader

GRAPH, XLA = Mode("folded", "graph"), Mode("folded", "xla")
PROCESSES = {
    "fed_avg": (OURS["fed_avg"], XLA),
    "adaptive_gaussian": (OURS["adaptive_gaussian"], XLA),
    "median": (
        {
            "client_optimizer": sgd(),
            "client_weighting": processes.uniform(),
            "aggregator": StackingFactory(
                CoordinateMedian(on_breakdown="skip"), capacity=7
            ),
        },
        GRAPH,
    ),
}


@pytest.fixture(scope="module")
def addresses(workers):
    return [worker.address for worker in workers]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_shipped_and_read_data_give_the_same_bits(addresses, tmp_path, name):
    task = make_task()
    arguments, mode = PROCESSES[name]
    process = processes.build_fed_avg(task, **arguments)
    cohorts = cohorts_of(task)

    def run(**how):
        engine = runtime.remote(process, addresses, mode=mode, **how)
        return leaves(rounds_of(engine, cohorts))

    shipped = run()
    read = run(data_folder=tmp_path, clients=task.train)
    assert len(shipped) == len(read) > 4
    for one, other in zip(shipped, read):
        np.testing.assert_array_equal(one, other)


ARRAYS = {
    "x/flags": np.array([[True, False], [False, True], [True, True]]),
    "x/pixels": np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
    "x/large": np.array([2**63, 1, 2], np.uint64),
    "x/half": np.array([0.5, -2.0, np.nan], np.float16),
    "x/words": np.array([b"", b"two\0", b"drei"], object),
    "y": np.array([2**40, -1, 0], np.int64),
}


class TestReader:
    """The leaves that a worker makes of files are those that are made here."""

    @pytest.fixture(scope="class")
    def clients(self):
        empty = {name: array[:0] for name, array in ARRAYS.items()}
        one = {name: array[1:2] for name, array in ARRAYS.items()}
        return data.ClientData.from_arrays(
            {"all": ARRAYS, "none": empty, "one": one},
            data.Batching(batch_size=2),
        )

    def test_every_type_of_array(self, worker, clients, tmp_path):
        cohort = clients.cohort(["all", "none", "one"], seed=3, round_number=1)
        stacked = cohort.stacked(num_clients=4, num_steps=3)
        names = [*clients.specs, "mask", "num_steps", "seed"]
        specs = [
            tf.TensorSpec(
                [None, *stacked[name].shape[1:]],
                tf.string if stacked[name].dtype == object else stacked[name].dtype,
            )
            for name in names
        ]
        files = ExampleFiles(tmp_path, clients.specs)
        reader = Reader(names, specs, clients.specs)
        argument = reader.argument(cohort, files, (4, 3))
        context = WorkerContext(worker.stub)
        with tff.framework.get_context_stack().install(context):
            *found, count = reader.computation(argument)
        context.close()
        assert (len(found), count) == (len(names), 3)
        for name, leaf in zip(names, found):
            np.testing.assert_array_equal(np.asarray(leaf), stacked[name], name)


SPECS = {"x": ArraySpec((2,), np.dtype(np.float32))}


class TestFiles:
    def clients(self, *values):
        return data.ClientData.from_arrays(
            {
                f"c{i}": {
                    "x": np.full((1, 2), value, np.float32),
                    "y": np.zeros(1, np.int32),
                }
                for i, value in enumerate(values)
            }
        )

    def files_of(self, folder):
        return sorted(folder.rglob("*.examples"))

    def test_content(self, tmp_path):
        ExampleFiles(tmp_path, SPECS).prepare(self.clients(1.5))
        [path] = self.files_of(tmp_path)
        content = path.read_bytes()
        name = hashlib.sha256(content).hexdigest()
        assert path == tmp_path / name[:2] / f"{name}.examples"
        first, _, rest = content.partition(b"\n")
        assert json.loads(first) == {"version": 1, "arrays": [["x", "<f4", [1, 2]]]}
        assert rest == np.array([1.5, 1.5], "<f4").tobytes()

    def test_what_is_there_is_used_and_other_examples_are_other_files(self, tmp_path):
        files = ExampleFiles(tmp_path, SPECS)
        # Equal examples share a file.
        assert files.prepare(self.clients(1.0, 1.0, 2.0)) == 2
        before = [path.stat().st_mtime_ns for path in self.files_of(tmp_path)]
        assert ExampleFiles(tmp_path, SPECS).prepare(self.clients(2.0, 1.0)) == 0
        assert [p.stat().st_mtime_ns for p in self.files_of(tmp_path)] == before
        assert ExampleFiles(tmp_path, SPECS).prepare(self.clients(3.0)) == 1

    def test_other_clients_of_the_same_names(self, tmp_path):
        files = ExampleFiles(tmp_path, SPECS)
        first, second = self.clients(1.0), self.clients(2.0)
        files.prepare(first)
        cohorts = [c.cohort(["c0"], seed=0, round_number=1) for c in (first, second)]
        paths = [files.of(cohort, "c0").path for cohort in cohorts]
        assert [np.frombuffer(p.read_bytes()[-8:], "<f4")[0] for p in paths] == [1, 2]

    @pytest.mark.parametrize("damage", [b"", b"other", None], ids=["cut", "short", ""])
    def test_damage_is_refused_by_name(self, tmp_path, damage):
        ExampleFiles(tmp_path, SPECS).prepare(self.clients(1.0))
        [path] = self.files_of(tmp_path)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"!" if damage is None else damage)
        with pytest.raises(UserError, match=f"{path.name} does not hold"):
            ExampleFiles(tmp_path, SPECS).prepare(self.clients(1.0))

    @pytest.mark.parametrize("put", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
    def test_what_is_no_file_is_not_read(self, tmp_path, monkeypatch, put):
        ExampleFiles(tmp_path, SPECS).prepare(self.clients(1.0))
        [path] = self.files_of(tmp_path)
        path.unlink()
        put(path)
        monkeypatch.setattr(
            type(path), "read_bytes", lambda self: pytest.fail("it would not end")
        )
        with pytest.raises(UserError, match=f"{path.name} does not hold"):
            ExampleFiles(tmp_path, SPECS).prepare(self.clients(1.0))

    def test_a_link_to_nothing_is_replaced(self, tmp_path):
        files = ExampleFiles(tmp_path, SPECS)
        files.prepare(self.clients(1.0))
        [path] = self.files_of(tmp_path)
        content = path.read_bytes()
        path.unlink()
        path.symlink_to(tmp_path / "nothing")
        assert files.prepare(self.clients(1.0)) == 1
        assert path.read_bytes() == content
        assert not path.is_symlink()

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        taken = tmp_path / "file"
        taken.write_text("")
        with pytest.raises(UserError, match=f"{taken}/.*: Not a directory"):
            ExampleFiles(taken, SPECS).prepare(self.clients(1.0))

    def test_nothing_but_examples_is_left(self, tmp_path):
        ExampleFiles(tmp_path, SPECS).prepare(self.clients(1.0, 2.0))
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert sorted(files) == self.files_of(tmp_path)

    def test_zeros_at_the_end_count(self):
        fingerprints = [
            tuple(example_files.fingerprint(content))
            for content in (b"a", b"a\0", b"a\0\0", b"")
        ]
        for one, other in itertools.combinations(fingerprints, 2):
            assert one != other


@pytest.mark.slow
class TestWrongFolders:
    @pytest.fixture(scope="class")
    def task(self):
        return make_task()

    @pytest.fixture(scope="class")
    def process(self, task):
        return processes.build_fed_avg(task, **OURS["fed_avg"])

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (lambda path: path.unlink(), "No such file or directory"),
            (lambda path: path.write_bytes(b"other"), "has another content than"),
        ],
        ids=["missing", "other"],
    )
    def test_the_worker_and_the_file_are_named(
        self, addresses, tmp_path, task, process, damage, said
    ):
        with runtime.remote(
            process,
            addresses[:1],
            mode=GRAPH,
            data_folder=tmp_path,
            clients=task.train,
        ) as engine:
            state = engine.initialize()
            cohort = task.train.cohort(["c0"], seed=0, round_number=1)
            files = ExampleFiles(tmp_path, task.train.specs)
            path = files.of(cohort, "c0").path
            damage(path)
            with pytest.raises(DataFileError) as raised:
                engine.next(state, cohort)
            # The engine goes on with other clients.
            engine.next(state, task.train.cohort(["c1"], seed=0, round_number=1))
        message = str(raised.value)
        assert message.startswith(f"the worker at {addresses[0]}: {path}")
        assert said in message
        assert "\n" not in message

    def test_a_folder_with_any_name(self, addresses, tmp_path, task, process):
        folder = tmp_path / 'a;b]\\ "{{node c}}"\n[d'
        cohort = task.train.cohort(["c0"], seed=0, round_number=1)
        with runtime.remote(
            process, addresses[:1], mode=GRAPH, data_folder=folder, clients=task.train
        ) as engine:
            state = engine.initialize()
            engine.next(state, cohort)
            path = ExampleFiles(folder, task.train.specs).of(cohort, "c0").path
            path.write_bytes(b"other")
            with pytest.raises(DataFileError, match="has another content than"):
                engine.next(state, cohort)
            path.unlink()
            with pytest.raises(DataFileError, match=": No such file or directory; "):
                engine.next(state, cohort)

    @pytest.mark.parametrize("mode", [GRAPH, XLA], ids=str)
    def test_a_client_with_a_label_out_of_range_is_named(
        self, addresses, process, mode
    ):
        broken = make_task()
        arrays = {i: dict(broken.train.load(i)) for i in ("c0", "c1")}
        arrays["c1"]["y"] = arrays["c1"]["y"] + 90
        clients = data.ClientData.from_arrays(arrays, broken.train.batching)
        cohort = clients.cohort(["c0", "c1"], seed=0, round_number=1)
        with (
            runtime.remote(process, addresses[:1], mode=mode) as engine,
            pytest.raises(UserError, match=r"^client c1: .*range"),
        ):
            engine.next(engine.initialize(), cohort)


def test_what_workers_cannot_read_is_refused(tmp_path):
    task = make_task()
    folder = {"data_folder": tmp_path, "clients": task.train}
    datasets = tff_processes()["weighted_fed_avg"]()
    with pytest.raises(runtime.UnsupportedProcess, match="datasets; leave it out"):
        runtime.remote(datasets, ["localhost:1"], **folder)
    process = summing_process(tff.federated_sum)
    with pytest.raises(ValueError, match="needs clients"):
        runtime.remote(process, ["localhost:1"], data_folder=tmp_path)


@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on_as_it_was(addresses, tmp_path):
    task = make_task()
    process = processes.build_fed_avg(task, **OURS["fed_avg"])
    kept = tmp_path / "runtime.json"
    kept.write_text('{"parts": 3}')
    with runtime.remote(process, addresses, choice_file=kept) as engine:
        assert engine.parts == 3
        engine.next(engine.initialize(), cohorts_of(task)[0])
        assert engine.mode is None
    assert kept.read_text() == '{"parts": 3}'
    with pytest.raises(runtime.UnsupportedProcess, match="earlier rounds"):
        runtime.remote(
            process,
            addresses,
            choice_file=kept,
            data_folder=tmp_path,
            clients=task.train,
        )


@pytest.mark.slow
def test_nothing_is_written_where_no_worker_answers(tmp_path):
    task = make_task()
    process = processes.build_fed_avg(task, **OURS["fed_avg"])
    kept, folder = tmp_path / "runtime.json", tmp_path / "examples"
    for how in ({"data_folder": folder, "clients": task.train}, {"choice_file": kept}):
        with pytest.raises(runtime.WorkerUnavailable, match="localhost:1"):
            runtime.remote(process, ["localhost:1"], connect_seconds=0.2, **how)
    assert not kept.exists()
    assert not folder.exists()


@pytest.mark.slow
def test_parts_and_mode_are_kept(addresses, tmp_path):
    task = make_task()
    process = processes.build_fed_avg(task, **OURS["fed_avg"])
    kept = tmp_path / "runtime.json"
    first = runtime.remote(
        process, addresses, worker_cores=2, mode=GRAPH, choice_file=kept
    )
    first.close()
    said = []
    later = runtime.remote(
        process, addresses[:1], choice_file=kept, on_change=said.append
    )
    later.close()
    assert said == []
    more = runtime.remote(
        process, addresses, worker_cores=4, choice_file=kept, on_change=said.append
    )
    more.close()
    [line] = said
    assert "compute 4 parts at the same time, not 8" in line
    assert (later.parts, later.mode) == (4, GRAPH)
    record = json.loads(kept.read_text())
    assert (record["by"], record["compiler"]) == ("chunks", "graph")


def test_nan_stays_nan_where_a_worker_compiles(worker):
    @tff.tensorflow.computation(np.float32)
    def clipped(value):
        clip = tf.function(lambda v: tf.maximum(tf.minimum(v, 1.0), -1.0))
        return tf.function(clip, jit_compile=True)(value)

    context = WorkerContext(worker.stub)
    with tff.framework.get_context_stack().install(context):
        assert np.isnan(clipped(np.float32(np.nan)))
        assert clipped(np.float32(3)) == 1
    context.close()
