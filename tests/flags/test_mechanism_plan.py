"""From flags to the event of a private run, and to the arguments of its mechanism."""

from __future__ import annotations

import types

import pytest

from tfl_research import privacy, tasks
from tfl_research.flags import (
    FlagError,
    MechanismFlags,
    PrivacyFlags,
    SamplerFlags,
    ServerOptimizerFlags,
    builders,
    mechanism_plan,
    private_assembly,
)

IDS = tuple(f"client_{number}" for number in range(60))
SEPARATED = SamplerFlags("min_separation", 5)
CASES = {
    "gaussian": (MechanismFlags(), SamplerFlags("poisson", 6)),
    "fixed_size": (MechanismFlags(), SamplerFlags("fixed", 6)),
    "adaptive_gaussian": (MechanismFlags("adaptive_gaussian"), SamplerFlags("full")),
    "bounded_weight": (MechanismFlags("bounded_weight"), SamplerFlags("poisson", 6)),
    "tree": (MechanismFlags("tree", restart_every=8), SEPARATED),
    "banded_matrix": (MechanismFlags("banded_matrix"), SEPARATED),
    "cyclic": (
        MechanismFlags("banded_matrix", bands=3),
        SamplerFlags("cyclic_poisson", 4, min_separation=5),
    ),
    "discrete_gaussian": (MechanismFlags("discrete_gaussian"), SamplerFlags("full")),
    "skellam": (MechanismFlags("skellam", modulus_bits=24), SEPARATED),
    "local_gaussian": (MechanismFlags("local_gaussian"), SamplerFlags("poisson", 6)),
}


@pytest.fixture(scope="module")
def heart():
    return tasks.get("heart", seed=0)


def parts(sampler, task=None, rounds=30, **server):
    return types.SimpleNamespace(
        sampler=sampler.build(IDS, 1),
        run=types.SimpleNamespace(rounds=rounds),
        server=ServerOptimizerFlags(**server),
        task=task,
    )


@pytest.mark.parametrize("name", CASES)
def test_given_noise_is_in_the_event(name, heart):
    mechanism, sampler = CASES[name]
    found = mechanism_plan.noise_plan(
        PrivacyFlags(1.25), mechanism, parts(sampler, heart), 1e-3
    )
    assert found.noise_multiplier == found.event.noise_multiplier == 1.25
    assert found.event.kind == mechanism.entry.event_kind
    assert found.event.population == 60
    assert found.event.cohort_size == sampler.build(IDS, 1).expected_cohort_size
    assert (found.distributed is not None) == (name in ("discrete_gaussian", "skellam"))


@pytest.mark.parametrize("name", CASES)
def test_noise_is_calibrated_to_all_rounds(name, heart):
    mechanism, sampler = CASES[name]
    found = mechanism_plan.noise_plan(
        PrivacyFlags(target_epsilon=5), mechanism, parts(sampler, heart), 1e-3
    )
    spent = privacy.EpsilonCurve(found.event, 1e-3).at(30)
    # A thousandth of noise less would be too little.
    assert 4.95 < spent <= 5


def test_parameters_reach_the_events():
    tree = mechanism_plan.noise_plan(
        PrivacyFlags(1.0), MechanismFlags("tree"), parts(SEPARATED), 1e-3
    ).event
    assert (tree.restart_every, tree.efficient) == (30, True)
    tree = mechanism_plan.noise_plan(
        PrivacyFlags(1.0),
        MechanismFlags("tree", restart_every=8, tree_efficient=False),
        parts(SEPARATED),
        1e-3,
    ).event
    assert (tree.restart_every, tree.efficient) == (8, False)
    matrix = mechanism_plan.noise_plan(
        PrivacyFlags(1.0), MechanismFlags("banded_matrix"), parts(SEPARATED), 1e-3
    ).event
    # 60 clients, 5 a round: 12 rounds apart.
    assert (matrix.rounds, matrix.bands, matrix.min_separation) == (30, 12, 12)
    few = parts(SEPARATED, rounds=7)
    assert mechanism_plan.bands_for(MechanismFlags("banded_matrix"), few) == 7


def test_distributed_noise_is_for_the_model_and_the_cohort(heart):
    mechanism, sampler = CASES["discrete_gaussian"]
    plan = mechanism_plan.noise_plan(
        PrivacyFlags(1.0), mechanism, parts(sampler, heart), 1e-3
    ).distributed
    # Of the trainable weights; the model has no others.
    assert plan.dimension == heart.build_model().count_params()
    assert (plan.cohort_size, plan.minimum_cohort_size, plan.bits) == (60, 60, 20)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (SamplerFlags("fixed", 6), ("fixed_size", "replace_one")),
        (SamplerFlags("shuffled", 6), ("none", "replace_one")),
        (SamplerFlags("full"), ("none", "zero_out")),
        (SEPARATED, ("none", "zero_out")),
    ],
)
def test_neighbours_of_distributed_noise(sampler, expected, heart):
    event = mechanism_plan.noise_plan(
        PrivacyFlags(1.0), MechanismFlags("skellam"), parts(sampler, heart), 1e-3
    ).event
    assert (event.sampling, event.neighbouring_relation) == expected


@pytest.mark.parametrize(
    ("private", "mechanism", "sampler", "fragments"),
    [
        (
            PrivacyFlags(1.0, accountant="pld"),
            MechanismFlags("skellam"),
            SamplerFlags("full"),
            ["--accountant=pld", "--accountant=rdp"],
        ),
        (
            PrivacyFlags(1.0),
            MechanismFlags("banded_matrix", bands=13),
            SEPARATED,
            ["--mechanism=banded_matrix", "bands must be at most"],
        ),
        (
            PrivacyFlags(1.0),
            MechanismFlags("skellam", modulus_bits=3),
            SamplerFlags("full"),
            ["--modulus_bits=3", "--noise_multiplier=1", "raise bits"],
        ),
        (
            PrivacyFlags(1.0),
            MechanismFlags("skellam", minimum_cohort_size=61),
            SamplerFlags("full"),
            ["--minimum_cohort_size=61", "at most that"],
        ),
        (
            PrivacyFlags(target_epsilon=1e-6),
            MechanismFlags("tree"),
            SEPARATED,
            ["--target_epsilon=1e-06", "raise the target"],
        ),
    ],
)
def test_what_does_not_fit(private, mechanism, sampler, fragments, heart):
    with pytest.raises(FlagError) as raised:
        mechanism_plan.noise_plan(private, mechanism, parts(sampler, heart), 1e-9)
    for fragment in fragments:
        assert fragment in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_matrix_is_optimised_for_the_servers_optimizer(monkeypatch):
    seen = {}

    def kept(**arguments):
        seen.update(arguments)

    monkeypatch.setattr(privacy, "banded_matrix_mechanism", kept, raising=False)

    def built(**server):
        some = parts(SEPARATED, rounds=4, **server)
        noise = mechanism_plan.noise_plan(
            PrivacyFlags(1.0), MechanismFlags("banded_matrix"), some, 1e-3
        )
        promise = types.SimpleNamespace(
            mechanism=MechanismFlags("banded_matrix"), noise=noise, has_rule=False
        )
        seen.clear()
        builders.mechanism(promise, some, noise_seed=3)
        return dict(seen)

    plain = built(momentum=0.9)
    assert (plain["momentum"], plain["rounds"], plain["bands"]) == (0.9, 4, 4)
    assert (plain["noise_multiplier"], plain["expected_cohort_size"]) == (1.0, 5)
    assert "learning_rates" not in plain
    warm = built(learning_rate=2.0, learning_rate_warmup_rounds=1)
    assert warm["learning_rates"] == [1.0, 2.0, 2.0, 2.0]
    assert "momentum" not in built(optimizer="adam")


@pytest.mark.parametrize(
    "cohort",
    [
        SamplerFlags("poisson", 6),
        SamplerFlags("fixed", 6),
        SamplerFlags("cyclic_poisson", 4, min_separation=5),
    ],
    ids=lambda cohort: cohort.sampler,
)
def test_private_cohorts_follow_the_secret_run_seed_alone(cohort):
    def drawn(seed, run_seed):
        found = private_assembly.secret_sampler(
            types.SimpleNamespace(
                sampler=cohort.build(IDS, seed),
                cohort=cohort,
                run=types.SimpleNamespace(seed=seed),
                task=types.SimpleNamespace(train=types.SimpleNamespace(client_ids=IDS)),
            ),
            types.SimpleNamespace(run_seed=run_seed),
        )
        return [found.sample(number) for number in range(1, 6)]

    assert drawn(0, 7) == drawn(1, 7)
    assert drawn(0, 7) != drawn(0, 8)
    public = cohort.build(IDS, 7)
    assert drawn(7, 7) != [public.sample(number) for number in range(1, 6)]
