"""The in-process runtime against TFF's own: same states, same metrics."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from hypothesis import given, settings, strategies as st
from toy_processes import (
    ADD,
    OURS,
    assert_same,
    client_datasets,
    cohorts_of,
    cohorts_of_one_shape,
    dropout_builder,
    leaves,
    make_task,
    rounds_of,
    sgd,
    summing_process,
    tff_processes,
)

from tfl_research import processes, runtime
from tfl_research.errors import UserError
from tfl_research.runtime import Mode, cores
from tfl_research.runtime.compiler import choice, families, shared_programs

ROUNDS = 3

MODES = [
    Mode("folded", "xla"),
    Mode("folded", "graph"),
    Mode("vectorised", "graph"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rounds"),
    [
        ("fed_avg", cohorts_of),
        *((name, cohorts_of_one_shape) for name in OURS if name != "fed_avg"),
        *(
            pytest.param(name, cohorts_of, marks=pytest.mark.campaign)
            for name in OURS
            if name != "fed_avg"
        ),
    ],
)
def test_our_processes_agree_with_tffs_runtime(name, rounds):
    task = make_task()
    process = processes.build_fed_avg(task, **OURS[name])
    cohorts = rounds(task)
    modes = MODES if name in ("fed_avg", "adaptive_gaussian") else MODES[:2]
    if name == "fed_avg":
        modes = [*modes, Mode("vectorised", "xla")]
    expected = rounds_of(runtime.tff_local(process), cohorts)
    for mode in modes:
        assert_same(
            rounds_of(runtime.in_process(process, mode=mode), cohorts), expected
        )


@pytest.mark.slow
def test_dropout_is_the_same_on_both_runtimes():
    task = make_task(dropout_builder)
    process = processes.build_fed_avg(task, client_optimizer=sgd())
    cohorts = cohorts_of(task)
    expected = rounds_of(runtime.tff_local(process), cohorts)
    for mode in MODES[:2]:
        assert_same(
            rounds_of(runtime.in_process(process, mode=mode), cohorts), expected
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    # The tables of tests/conformance have all of them.
    [
        name if index < 3 else pytest.param(name, marks=pytest.mark.campaign)
        for index, name in enumerate(tff_processes())
    ],
)
def test_tffs_dataset_processes_run_in_process(name):
    process = tff_processes()[name]()
    values = client_datasets()
    rounds = [values, values[:1], values[1:]]
    assert_same(
        rounds_of(runtime.in_process(process), rounds),
        rounds_of(runtime.tff_local(process), rounds),
    )


class TestSecureSums:
    @pytest.mark.parametrize(
        ("intrinsic", "expected"),
        [
            (lambda v: tff.federated_secure_sum(v, 100), 60),
            (lambda v: tff.federated_secure_sum_bitwidth(v, 7), 60),
            (lambda v: tff.backends.mapreduce.federated_secure_modular_sum(v, 7), 4),
        ],
        ids=["maximum", "bitwidth", "modular"],
    )
    def test_secure_sums_are_the_sums_they_stand_for(self, intrinsic, expected):
        process = summing_process(intrinsic)
        for mode in MODES[:2]:
            engine = runtime.in_process(process, mode=mode, chunk_size=2)
            state, total = engine.next(engine.initialize(), [10, 20, 30])
            assert int(total) == expected
            assert int(state) == expected

    def test_no_clients_sum_to_nothing(self):
        process = summing_process(lambda v: tff.federated_secure_sum(v, 100))
        engine = runtime.in_process(process, mode=MODES[0])
        assert int(engine.next(5, [])[1]) == 0


class TestChunks:
    @pytest.fixture(scope="class")
    def process(self):
        return processes.build_fed_avg(make_task(), client_optimizer=sgd())

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(
        sizes=st.lists(st.integers(0, 14), min_size=0, max_size=9),
        chunk_size=st.sampled_from([None, 1, 2, 3, 8]),
        parallel=st.sampled_from([1, 2]),
        mode=st.sampled_from(MODES[:2]),
    )
    def test_chunks_masks_and_threads_change_nothing(
        self, process, sizes, chunk_size, parallel, mode
    ):
        task = make_task(sizes=[*sizes, 4])
        ids = task.train.client_ids[: len(sizes)]
        cohort = task.train.cohort(ids, seed=3, round_number=1)
        whole = runtime.in_process(process, mode=Mode("folded", "graph"), parallel=1)
        expected = whole.next(whole.initialize(), cohort)
        with runtime.in_process(
            process, mode=mode, chunk_size=chunk_size, parallel=parallel
        ) as engine:
            assert_same(engine.next(engine.initialize(), cohort), expected)

    def test_the_same_cohort_twice_is_bit_identical(self, process):
        task = make_task()
        cohort = task.train.cohort(task.train.client_ids, seed=3, round_number=1)
        with runtime.in_process(process, mode=MODES[0], chunk_size=2) as engine:
            first = engine.next(engine.initialize(), cohort)
            second = engine.next(engine.initialize(), cohort)
        for a, b in zip(leaves(first), leaves(second)):
            np.testing.assert_array_equal(a, b)

    def test_a_sweep_in_one_process_compiles_once(self, monkeypatch):
        """Another seed of the weights is the same program, another rate an argument."""
        task = make_task()
        cohort = task.train.cohort(task.train.client_ids, seed=3, round_number=1)
        families.forget()
        lifted = []
        build = shared_programs.SharedPrograms._built

        def counted(self, trace, signature, compiled, graphs, places):
            if compiled:
                lifted.append(len(places))
            return build(self, trace, signature, compiled, graphs, places)

        monkeypatch.setattr(shared_programs.SharedPrograms, "_built", counted)

        def trained(rate, seed=0):
            process = processes.build_fed_avg(
                task, client_optimizer=sgd(rate), seed=seed
            )
            with runtime.in_process(process, mode=MODES[0]) as engine:
                return engine.next(engine.initialize(), cohort)

        swept = [trained(rate) for rate in (0.1, 0.2, 0.05)]
        trained(0.1, seed=9)
        # The rate is an argument of the first program already.
        assert lifted == [1]
        for rate, found in zip((0.1, 0.2, 0.05), swept):
            families.forget()
            for ours, alone in zip(leaves(found), leaves(trained(rate))):
                np.testing.assert_array_equal(ours, alone)

    @pytest.mark.parametrize(
        ("compiler", "work", "constants", "first"),
        [
            # Both compilers turn a division by a constant into a product.
            ("xla", lambda c, s, x: s + x / c, (3.0, 7.0, 11.0), 0.25),
            ("graph", lambda c, s, x: s + x / c, (3.0, 7.0), 0.25),
            # With a power of two that changes no bit, but with others it does.
            ("xla", lambda c, s, x: s + x / c, (2.0, 3.0), 0.25),
            # XLA joins two products; in the first round all products are zero.
            ("xla", lambda c, s, x: (s * x) * c * 0.7, (0.6, 0.3), 0.0),
            # Powers become products and roots.
            ("xla", lambda c, s, x: s + (x * x) ** c, (1.3, 0.5, 4.0), 0.25),
        ],
        ids=["quotients", "graph", "power_of_two", "zeros", "powers"],
    )
    def test_what_compilers_make_of_a_constant_is_the_same_in_a_sweep(
        self, compiler, work, constants, first
    ):
        values = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
        add_one = tff.tensorflow.computation(lambda s: s + 1.0, np.float32)

        def trained(constant):
            @tff.tensorflow.computation(np.float32, (np.float32, [50]))
            def of_client(state, x):
                return work(constant, state, x)

            @tff.federated_computation(
                tff.FederatedType(np.float32, tff.SERVER),
                tff.FederatedType((np.float32, [50]), tff.CLIENTS),
            )
            def next_round(state, x):
                sent = tff.federated_broadcast(state)
                total = tff.federated_sum(tff.federated_map(of_client, (sent, x)))
                return tff.federated_map(add_one, state), total

            @tff.federated_computation
            def initialize():
                return tff.federated_value(np.float32(first), tff.SERVER)

            process = tff.templates.IterativeProcess(initialize, next_round)
            mode = Mode("folded", compiler)
            with runtime.in_process(process, mode=mode) as engine:
                state, sums = engine.initialize(), []
                for _ in range(2):
                    state, total = engine.next(state, list(values))
                    sums.append(np.asarray(total))
            return sums

        families.forget()
        for constant, found in [(c, trained(c)) for c in constants]:
            families.forget()
            np.testing.assert_array_equal(found, trained(constant))

    @pytest.mark.parametrize(("chunk_size", "parts"), [(1, 2), (4, 2), (8, 1)])
    def test_the_first_round_builds_one_finishing_program(
        self, process, chunk_size, parts
    ):
        """For as many accumulators as the cohort's chunks leave."""
        task, built = make_task(), []
        (cohort, *_) = cohorts_of(task)
        with runtime.in_process(
            process, mode=MODES[0], chunk_size=chunk_size, parallel=1
        ) as engine:
            whole = engine._programs.compiled

            def recorded(name, *arguments, **named):
                built.append(name)
                return whole(name, *arguments, **named)

            engine._programs.compiled = recorded
            engine.next(engine.initialize(), cohort)
        assert {n for n in built if n.startswith("finish")} == {f"finish {parts}"}

    def test_bad_chunk_size(self, process):
        task = make_task()
        cohort = task.train.cohort(task.train.client_ids, seed=3, round_number=1)
        engine = runtime.in_process(process, mode=MODES[0], chunk_size=0)
        with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
            engine.next(engine.initialize(), cohort)


class TestChoice:
    def test_it_is_measured_and_explained(self):
        task = make_task()
        process = processes.build_fed_avg(task, client_optimizer=sgd())
        with runtime.in_process(process) as engine:
            assert engine.mode is None
            cohort = task.train.cohort(task.train.client_ids, seed=3, round_number=1)
            engine.next(engine.initialize(), cohort)
            assert engine.mode is not None
            assert "ms" in engine.choice_reason
        with runtime.in_process(process) as again:
            again.next(again.initialize(), cohort)
        assert (again.mode, again.choice_reason) == (engine.mode, engine.choice_reason)

    def test_a_mode_for_datasets_is_refused_with_the_reason(self):
        process = tff_processes()["fed_sgd"]()
        with pytest.raises(runtime.UnsupportedProcess, match="clients hold datasets"):
            runtime.in_process(process, mode=Mode("vectorised", "graph"))

    def test_a_process_without_map_reduce_form_is_handed_over(self, tmp_path, caplog):
        @tff.federated_computation
        def initialize():
            return tff.federated_value(0, tff.SERVER)

        @tff.federated_computation(
            tff.FederatedType(np.int32, tff.SERVER),
            tff.FederatedType(np.int32, tff.CLIENTS),
        )
        def twice(state, values):
            once = tff.federated_sum(values)
            back = tff.federated_broadcast(once)
            again = tff.federated_sum(tff.federated_map(ADD, (values, back)))
            return state, again

        process = tff.templates.IterativeProcess(initialize, twice)
        with pytest.raises(runtime.UnsupportedProcess, match="no map-reduce form"):
            runtime.in_process(process, mode=MODES[0])
        caplog.clear()
        with runtime.in_process(process, choice_file=tmp_path / "choice") as engine:
            # 1 + 2 is sent to both, and added to what they have.
            assert engine.next(engine.initialize(), [1, 2]) == (0, 9)
            assert engine.mode is None
        assert "no map-reduce form" in engine.choice_reason
        (line,) = [r for r in caplog.records if "TFF's runtime executes" in r.message]
        assert line.levelname == "WARNING"

    def test_bad_words(self):
        for arguments in (("parallel", "xla"), ("folded", "jax")):
            with pytest.raises(ValueError, match="must be one of"):
                Mode(*arguments)


def test_a_measured_mode_stays_that_of_the_run(tmp_path, monkeypatch):
    """Whatever a later start would measure, and on however many cores."""
    task = make_task()
    process = processes.build_fed_avg(task, client_optimizer=sgd())
    cohorts = cohorts_of(task)
    path = tmp_path / "runtime.json"
    measured = [
        choice.Choice(Mode("folded", "graph"), "first"),
        choice.Choice(Mode("folded", "xla"), "second"),
    ]
    monkeypatch.setattr(choice, "choose", lambda *_, **__: measured.pop(0))
    with runtime.in_process(process, parallel=1, choice_file=path) as engine:
        assert not path.exists()
        first = rounds_of(engine, cohorts)
    record = {
        "clients": "folded",
        "compiler": "graph",
        "parallel": 1,
        "operation_threads": cores.operation_threads(),
    }
    found = json.loads(path.read_text())
    assert len(found.pop("seal")) == 64
    assert found == {**record, "reason": "first"}
    content = path.read_bytes()
    with runtime.in_process(process, choice_file=path) as engine:
        assert (engine.mode, engine.parallel) == (Mode("folded", "graph"), 1)
        again = rounds_of(engine, cohorts)
    assert path.read_bytes() == content
    for found, wanted in zip(leaves(again), leaves(first)):
        np.testing.assert_array_equal(found, wanted)
    # Without the file, a later start measures again.
    with runtime.in_process(process, parallel=1) as engine:
        rounds_of(engine, cohorts)
        assert engine.mode == Mode("folded", "xla")


def test_a_given_mode_is_kept_too(tmp_path):
    process = processes.build_fed_avg(make_task(), client_optimizer=sgd())
    path = tmp_path / "runtime.json"
    mode = Mode("folded", "graph")
    with runtime.in_process(process, mode=mode, parallel=2, choice_file=path):
        record = {
            "clients": "folded",
            "compiler": "graph",
            "parallel": 2,
            "operation_threads": cores.operation_threads(),
        }
        found = json.loads(path.read_text())
        assert len(found.pop("seal")) == 64
        assert found == {**record, "reason": "given"}
    path.write_text('{"clients": "sideways", "compiler": "xla", "parallel": 2}')
    with pytest.raises(UserError, match="does not hold a choice of execution"):
        runtime.in_process(process, choice_file=path)


@pytest.mark.parametrize("compiler", ["xla", "graph"])
def test_a_clipped_nan_stays_nan(compiler):
    """XLA's fast minimum and maximum would make a number of it."""

    @tff.tensorflow.computation(np.float32)
    def clipped(value):
        several = tf.stack([0.5, value])
        return tf.clip_by_value(value, -1.0, 1.0) + tf.reduce_max(several)

    @tff.federated_computation
    def initialize():
        return tff.federated_value(np.float32(0), tff.SERVER)

    @tff.federated_computation(
        initialize.type_signature.result, tff.FederatedType(np.float32, tff.CLIENTS)
    )
    def next_round(state, values):
        return state, tff.federated_sum(tff.federated_map(clipped, values))

    process = tff.templates.IterativeProcess(initialize, next_round)
    with runtime.in_process(process, mode=Mode("folded", compiler)) as engine:
        state = engine.initialize()
        _, total = engine.next(state, [np.float32(3), np.float32("nan")])
        assert np.isnan(total)
        _, total = engine.next(state, [np.float32(3), np.float32(0)])
        assert float(total) == 4.5
