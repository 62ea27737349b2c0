"""Where mechanisms keep the seed of their noise, and how it gets its key."""

from __future__ import annotations

import dataclasses
import io
from typing import ClassVar

import numpy as np
import pytest

import tfl_research as tfl
from tfl_research import privacy, runtime
from tfl_research.errors import UserError
from tfl_research.experiment.running import building, noise_keys
from tfl_research.experiment.setup import prepare
from tfl_research.privacy.mechanisms.noised_sum import seed_tensor
from tfl_research.storage import nest, provenance

KEY = 2**100 + 12345
COHORTS = {
    "tree": tfl.Cohorts("full"),
    "banded_matrix": tfl.Cohorts("min_separation", cohort_size=3),
    "discrete_gaussian": tfl.Cohorts("full"),
    "skellam": tfl.Cohorts("full"),
}


def task():
    def build_model():
        import tensorflow as tf

        layers = [tf.keras.layers.Input([2]), tf.keras.layers.Dense(2)]
        return tf.keras.Sequential(layers)

    generator = np.random.default_rng(3)
    clients = {}
    for number in range(6):
        x = generator.normal(size=(6, 2)).astype(np.float32)
        clients[f"client {number}"] = {"x": x, "y": x[:, 0] > x[:, 1]}
    return tfl.tasks.from_arrays(clients, model=build_model)


def experiment(mechanism="gaussian", **parts):
    if mechanism == "bounded_weight":
        parts["weighting"] = tfl.Weighting("capped", weight_cap=6.0)
    return tfl.Experiment(
        task(),
        cohorts=COHORTS.get(mechanism, tfl.Cohorts("poisson", cohort_size=3)),
        privacy=tfl.UserLevelPrivacy(mechanism, noise_multiplier=0.2, delta=1e-3),
        training=tfl.Training(
            rounds=4, checkpoint_every=2, evaluate_every=9, tensorboard=False
        ),
        **parts,
    )


def leaves(value):
    return [np.asarray(leaf) for _, leaf in nest.flatten(value)]


def test_a_state_without_a_seed_is_refused():
    """The noise would have the public seed in the place of the key."""
    words = [np.asarray(seed_tensor(s)) for s in (noise_keys.PUBLIC_SEED, KEY)]
    keyed = runtime.KeyedEngine(None, *words)
    with pytest.raises(ValueError, match="has no seed of noise"):
        keyed.next({"seed": words[1]}, None)


def check_keyed(setup, process, direct):
    """The public process with a key does what the process of the key does."""
    words = [np.asarray(seed_tensor(s)) for s in (noise_keys.PUBLIC_SEED, KEY)]
    with runtime.in_process(process) as engine, runtime.in_process(direct) as whole:
        keyed = runtime.KeyedEngine(engine, *words)
        state, expected = keyed.initialize(), whole.initialize()
        for number in (1, 2):
            cohort = setup.task.train.cohort(
                setup.task.train.client_ids[:3], seed=1, round_number=number
            )
            state, metrics = keyed.next(state, cohort)
            expected, expected_metrics = whole.next(expected, cohort)
            for ours, theirs in zip(leaves(metrics), leaves(expected_metrics)):
                np.testing.assert_array_equal(ours, theirs)
            differing = [
                ours
                for ours, theirs in zip(leaves(state), leaves(expected))
                if not np.array_equal(ours, theirs)
            ]
            # The state has the public seed in the key's place, and no other difference.
            assert differing
            for leaf in differing:
                np.testing.assert_array_equal(leaf, words[0])


@pytest.mark.parametrize(
    "mechanism",
    [
        n
        if n in ("gaussian", "tree", "skellam", "local_gaussian")
        else pytest.param(n, marks=pytest.mark.campaign)
        for n in privacy.MECHANISMS.names()
        if privacy.MECHANISMS.origin(n) is None
    ],
)
def test_the_toolkits_mechanisms_keep_it_in_the_state_alone(mechanism):
    setup = prepare(experiment(mechanism))
    public, other = (
        building.process(setup, noise_seed=seed)
        for seed in (noise_keys.PUBLIC_SEED, KEY)
    )
    digests, others = map(runtime.computation_digests, (public, other))
    assert digests.pop("initial_state") != others.pop("initial_state")
    assert digests == others
    assert noise_keys.in_state(setup, public)
    check_keyed(setup, public, other)


class Sum(privacy.MechanismSettings):
    SUMMARY: ClassVar[str] = "noise of a test"
    PAPERS: ClassVar[tuple[str, ...]] = ("none",)
    SAMPLERS: ClassVar[tuple[str, ...]] = ("poisson",)

    def event(self, noise_multiplier, shape):
        return privacy.GaussianEvent.of(noise_multiplier, shape.amplification)

    def aggregator(self, plan, context):
        return privacy.gaussian_aggregator(
            l2_norm_clip=plan.l2_norm_clip,
            noise_multiplier=plan.noise_multiplier,
            expected_cohort_size=plan.expected_cohort_size,
            noise_seed=context.noise_seed,
        )


@dataclasses.dataclass(frozen=True)
class InState(Sum):
    """A wrapper of the toolkit's own noise."""

    NAME: ClassVar[str] = "seed_in_state"


@dataclasses.dataclass(frozen=True)
class InGraph(Sum):
    """Noise whose seed is a constant of the computation."""

    NAME: ClassVar[str] = "seed_in_graph"

    def aggregator(self, plan, context):
        return _in_graph(super().aggregator(plan, context), plan, context.noise_seed)


@dataclasses.dataclass(frozen=True)
class Derived(Sum):
    """A seed in the state that is not the context's."""

    NAME: ClassVar[str] = "seed_derived"

    def aggregator(self, plan, context):
        changed = dataclasses.replace(context, noise_seed=context.noise_seed * 3)
        return super().aggregator(plan, changed)


def _in_graph(inner, plan, noise_seed):
    import tensorflow as tf
    import tensorflow_federated as tff

    from tfl_research import stateless_random

    class Factory(tff.aggregators.WeightedAggregationFactory):
        def create(self, value_type, weight_type):
            process = inner.create(value_type, weight_type)
            stddev = plan.noise_multiplier * plan.l2_norm_clip
            scale = stddev / plan.expected_cohort_size

            @tff.tensorflow.computation(
                process.initialize.type_signature.result.member, value_type
            )
            def more(state, value):
                seed = stateless_random.fold_in(
                    seed_tensor(noise_seed), state[0]["round_number"]
                )
                return tf.nest.map_structure(
                    lambda v: v + 1e-4 * scale * stateless_random.normal(v.shape, seed),
                    value,
                )

            @tff.federated_computation(
                process.initialize.type_signature.result,
                tff.FederatedType(value_type, tff.CLIENTS),
                tff.FederatedType(weight_type, tff.CLIENTS),
            )
            def next_round(state, value, weight):
                done = process.next(state, value, weight)
                return tff.templates.MeasuredProcessOutput(
                    done.state,
                    tff.federated_map(more, (state, done.result)),
                    done.measurements,
                )

            return tff.templates.AggregationProcess(process.initialize, next_round)

    return Factory()


@pytest.fixture
def registered():
    for kind in (InState, InGraph, Derived):
        privacy.register_mechanism(kind)
    yield
    for kind in (InState, InGraph, Derived):
        privacy.MECHANISMS.unregister(kind.NAME)


@pytest.mark.usefixtures("registered")
class TestOfAUsersOwn:
    @pytest.mark.parametrize(
        ("mechanism", "expected"),
        [("seed_in_state", True), ("seed_in_graph", False), ("seed_derived", False)],
    )
    def test_found_out(self, mechanism, expected):
        setup = prepare(experiment(mechanism))
        process = building.process(setup, noise_seed=noise_keys.PUBLIC_SEED)
        assert noise_keys.in_state(setup, process) is expected
        if expected:
            direct = building.process(setup, noise_seed=KEY)
            check_keyed(setup, process, direct)

    @pytest.mark.parametrize(
        "mechanism",
        [
            "seed_in_state",
            pytest.param("seed_in_graph", marks=pytest.mark.campaign),
        ],
    )
    def test_it_runs_resumes_and_is_recharged_where_that_is_sound(
        self, tmp_path, monkeypatch, mechanism
    ):
        recharged = []
        monkeypatch.setattr(
            privacy.RoundAccount,
            "recharge_after",
            lambda self, completed: recharged.append(completed),
            raising=False,
        )
        own, out = experiment(mechanism), io.StringIO()
        first = [r.round_number for r in own.rounds(tmp_path / "run", stream=out)]
        assert first == [1, 2, 3, 4]
        more = own.with_settings(rounds=6)
        assert len(more.run(tmp_path / "run", stream=out).metrics) == 6
        versions = {**provenance.package_versions(), "numpy": "0.0"}
        monkeypatch.setattr(provenance, "package_versions", lambda: versions)
        longer = own.with_settings(rounds=7)
        with pytest.raises(UserError, match=r"→ 0\.0 differs"):
            longer.run(tmp_path / "run", stream=out)
        if mechanism == "seed_in_state":
            longer.run(tmp_path / "run", stream=out, recharge=True)
            assert recharged == [6]
        else:
            with pytest.raises(UserError, match="does not keep its noise seed"):
                longer.run(tmp_path / "run", stream=out, recharge=True)
            assert recharged == []
