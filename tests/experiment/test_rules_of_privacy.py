"""What privacy and audits go together with, without TensorFlow."""

from __future__ import annotations

import dataclasses

import compatibility_cases
import pytest
from compatibility_cases import (
    CAPPED,
    LOCAL,
    PRIVATE_DEVICES,
    RECORDS,
    UNIFORM,
    noised,
    refusal,
)

from tfl_research.aggregators import (
    AGGREGATORS,
    CoordinateMedian,
    Krum,
    NormClipping,
)
from tfl_research.algorithms import (
    ALGORITHMS,
)
from tfl_research.experiment import Experiment, compatibility
from tfl_research.experiment.configs import (
    Attack,
    Audit,
    Baseline,
    Batches,
    Cohorts,
    Compression,
    Devices,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.models.optimizers import ClientOptimizer
from tfl_research.privacy import MECHANISMS, MechanismSettings, mechanisms
from tfl_research.registry import registered
from tfl_research.sampling import NAMES as SAMPLERS

# By rule: parts of an experiment, and what is said of them on a command line.
REFUSED = {
    "audit": [
        *(
            (
                {"audit": Audit(), "privacy": privacy},
                "--audit: canaries test a mechanism of user-level privacy; give one, "
                "or leave the audit out",
            )
            for privacy in (None, RECORDS)
        ),
        (
            {
                "audit": Audit(),
                "privacy": noised(),
                "aggregator": NormClipping(clip_radius=1),
            },
            "--aggregator=norm_clipping: canaries examine the mean that a mechanism "
            "releases; give --aggregator=mean",
        ),
        (
            {"audit": Audit(), **PRIVATE_DEVICES},
            "--devices=9: do not go with an audit; leave one of them out",
        ),
        (
            {"audit": Audit(sabotage="noise_off"), **LOCAL},
            "--sabotage=noise_off: does not go with --mechanism=local_gaussian; give "
            "one of gaussian, adaptive_gaussian, bounded_weight, tree, banded_matrix",
        ),
        (
            {"audit": Audit(sabotage="noise_off"), "privacy": noised(ledger="l")},
            "--sabotage=noise_off: would put false charges into --ledger; leave "
            "--ledger out",
        ),
    ],
    "user_level": [
        (
            {"privacy": noised(), "weighting": Weighting("examples")},
            "--client_weighting=examples: numbers of examples have no bound, which "
            "breaks the guarantee; give --client_weighting=uniform, or "
            "--mechanism=bounded_weight --client_weighting=capped with --weight_cap",
        ),
        (
            {"privacy": noised("tree")},
            "--mechanism=tree: its account does not cover --sampler=poisson; give "
            "--sampler=min_separation or shuffled or full",
        ),
        (
            {"privacy": noised("gaussian"), "weighting": CAPPED},
            "--mechanism=gaussian: does not take --client_weighting=capped; give "
            "--client_weighting=uniform, or --mechanism=bounded_weight",
        ),
        (
            {
                "privacy": noised("skellam"),
                "weighting": CAPPED,
                "cohorts": Cohorts("fixed"),
            },
            "--mechanism=skellam: does not take --client_weighting=capped; give "
            "--client_weighting=uniform",
        ),
        (
            {
                "privacy": noised(mechanisms.BoundedWeight(clipped_denominator=True)),
                "weighting": CAPPED,
                "cohorts": Cohorts("full"),
            },
            "--clipped_denominator=True: is analysed for --sampler=poisson only; give "
            "--sampler=poisson",
        ),
        (
            {"privacy": noised(ledger="l"), "training": Training(run_seed="7")},
            "--ledger=l: its total assumes that each run has noise of its own, but "
            "runs of one --run_seed have the same noise; leave --run_seed out, and a "
            "secret seed is drawn",
        ),
        *(
            (
                {"privacy": noised(), "algorithm": name},
                f"--algorithm={name}: a mechanism covers only the clients' updates, "
                "but this algorithm's clients send or keep more; give "
                "--algorithm=fed_avg or fed_prox, or leave user-level privacy out",
            )
            for name in ("scaffold", "mime_lite", "ditto", "ifca", "fed_exp")
        ),
        (
            {"privacy": noised(), "aggregator": Krum(byzantine=1)},
            "--aggregator=krum: krum breaks the guarantee of gaussian: it follows a "
            "few of the updates, so that one client can move its result by up to the "
            "distance between two clipped updates, 2C, and not by C/n; use mean or "
            "norm_clipping, or noise that clients add themselves (local_gaussian, "
            "record_dp_sgd)",
        ),
        (
            {
                "privacy": noised("skellam"),
                "cohorts": Cohorts("full"),
                "aggregator": "geometric_median",
            },
            "--aggregator=geometric_median: geometric_median needs every client's "
            "update, but under secure aggregation the server sees only the sum of the "
            "updates; use one of mean, robust, zeroing, clipping, secure, "
            "repeated_geometric_median, norm_clipping, sign_majority",
        ),
        (
            {
                "privacy": noised(),
                "aggregator": NormClipping(clip_radius=1, bucket_size=2),
            },
            "--aggregator=norm_clipping: bucketing breaks the guarantee of gaussian: "
            "the mean of a bucket keeps the bound, but the rule that follows selects "
            "or trims the buckets; use mean or norm_clipping, or noise that clients "
            "add themselves (local_gaussian, record_dp_sgd)",
        ),
        (
            {
                "privacy": noised(),
                "aggregator": NormClipping(clip_radius=1, on_breakdown="skip"),
            },
            "--aggregator=norm_clipping: gaussian adds noise to a sum, for which no "
            "updates are stacked; leave --byzantine, --bucket_size, --neighbour_mixing "
            "and --on_breakdown out",
        ),
        (
            {**LOCAL, "weighting": CAPPED, "aggregator": CoordinateMedian()},
            "--client_weighting=capped: only updates get noise, so a rule that uses "
            "weights would see private weights; give --client_weighting=uniform",
        ),
    ],
    "record_level": [
        (
            {
                "privacy": dataclasses.replace(RECORDS, record_ledgers="l"),
                "training": Training(run_seed="7"),
            },
            "--record_ledgers=l: its total assumes that each run has noise of its own, "
            "but runs of one --run_seed have the same noise; leave --run_seed out, and "
            "a secret seed is drawn",
        ),
        (
            {"privacy": RECORDS, "algorithm": "fed_prox"},
            "--algorithm=fed_prox: clients with record-level privacy train by DP-SGD; "
            "give --algorithm=fed_avg",
        ),
        (
            {"privacy": RECORDS, "batches": Batches(client_epochs=2)},
            "--client_epochs=2: steps that are drawn at random have no epochs; give "
            "--client_steps",
        ),
        (
            {"privacy": RECORDS, "batches": Batches(batch_size=8)},
            "--batch_size=8: batches are drawn at random; give their expected size "
            "with --record_batch_size",
        ),
        (
            {"privacy": RECORDS, "batches": Batches(max_examples_per_client=8)},
            "--max_examples_per_client=8: every record is sampled with the same "
            "probability; leave it out and lower --record_batch_size or --client_steps",
        ),
        (
            {
                "privacy": RECORDS,
                "client_optimizer": ClientOptimizer(gradient_clip=1),
            },
            "--client_gradient_clip=1: gradients are clipped by --record_l2_norm_clip; "
            "leave it out",
        ),
    ],
    "beside_privacy": [
        case
        for privacy in (noised(), RECORDS)
        for case in (
            (
                {"privacy": privacy, "personal_evaluation": True},
                "--personal_evaluation: personal models are outside of the guarantee; "
                "leave it out, or leave privacy out",
            ),
            (
                {"privacy": privacy, "compression": Compression("quantize")},
                "--compression=quantize: does not go with privacy; leave "
                "one of them out",
            ),
            (
                {"privacy": privacy, "attack": Attack("sign_flip")},
                "--attack=sign_flip: does not go with privacy; leave one of them out",
            ),
            (
                {"privacy": privacy, "baseline": Baseline("pooled")},
                "--train_on=pooled: does not go with privacy; leave one of them out",
            ),
        )
    ],
}


@pytest.mark.parametrize(("rule", "index"), compatibility_cases.cases(REFUSED))
def test_what_a_rule_refuses(rule, index):
    compatibility_cases.check_refusal(rule, *REFUSED[rule][index])


# Samplers that a mechanism's account covers, by weights that it takes.
FITTING = {
    "gaussian": ("poisson fixed shuffled full min_separation", "uniform"),
    "adaptive_gaussian": (
        "poisson fixed shuffled full min_separation",
        "uniform capped",
    ),
    "bounded_weight": ("poisson fixed shuffled full min_separation", "capped"),
    "tree": ("min_separation shuffled full", "uniform capped"),
    "banded_matrix": ("min_separation cyclic_poisson", "uniform capped"),
    "discrete_gaussian": ("fixed shuffled full min_separation", "uniform"),
    "skellam": ("fixed shuffled full min_separation", "uniform"),
    "local_gaussian": (
        "poisson fixed shuffled full min_separation cyclic_poisson",
        "uniform capped",
    ),
}


def test_every_mechanism_is_in_the_table():
    assert tuple(FITTING) == MECHANISMS.names()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("weighting", [UNIFORM, CAPPED], ids=["uniform", "capped"])
@pytest.mark.parametrize("name", MECHANISMS.names())
def test_mechanism_by_sampler_by_weights(name, weighting, sampler):
    samplers, weightings = (words.split() for words in FITTING[name])
    separation = 4 if sampler == "cyclic_poisson" else None
    parts = {
        "privacy": noised(name),
        "cohorts": Cohorts(sampler, min_separation=separation),
        "weighting": weighting,
    }
    kind = weighting.client_weighting
    if kind in weightings and sampler in samplers:
        compatibility.check(Experiment("heart", **parts))
        return
    message = refusal(**parts).for_command_line
    assert message.startswith(f"--mechanism={name}: ")
    if kind not in weightings:
        assert f"--client_weighting={kind}" in message
    else:
        assert f"--sampler={sampler}" in message
        assert f"give --sampler={samplers[0]}" in message


@pytest.mark.parametrize("name", MECHANISMS.names())
def test_example_counts_are_refused_and_the_way_out_named(name):
    sampler = FITTING[name][0].split()[0]
    message = refusal(
        privacy=noised(name),
        cohorts=Cohorts(sampler),
        weighting=Weighting("examples"),
    ).for_command_line
    assert message.startswith("--client_weighting=examples: ")
    assert "--client_weighting=capped with --weight_cap" in message


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_only_algorithms_of_updates_are_covered_by_a_mechanism(name):
    algorithm = ALGORITHMS.resolve(name)
    parts = {"algorithm": algorithm, "privacy": noised()}
    if algorithm.buffering is not None:
        parts["devices"] = Devices(150)
    if name in ("fed_avg", "fed_prox"):
        compatibility.check(Experiment("heart", **parts))
    else:
        message = refusal(**parts).for_command_line
        assert message.startswith(f"--algorithm={name}: a mechanism covers")


def test_algorithm_with_a_mechanism_of_ones_own():
    """What a class says is what decides, not a list of names."""

    class Mine(MechanismSettings):
        NAME, SUMMARY = "mine", "nothing"
        SAMPLERS, WEIGHTINGS = ("poisson",), ("capped",)
        DEVICES_REFUSAL = "breaks on devices"

    class Half(type(AGGREGATORS.resolve("mean"))):
        NAME, SENSITIVITY = "half", "nobody knows"

    with registered(MECHANISMS, "mine", Mine), registered(AGGREGATORS, "half", Half):
        private = UserLevelPrivacy("mine", noise_multiplier=1.0)
        compatibility.check(Experiment("heart", privacy=private, weighting=CAPPED))
        error = refusal(privacy=private)
        assert error.for_command_line.startswith("--mechanism=mine: does not take")
        error = refusal(privacy=private, weighting=CAPPED, devices=Devices(9))
        assert "--devices=9: mine breaks on devices; give" in error.for_command_line
        sabotaged = Audit(sabotage="noise_off")
        error = refusal(privacy=private, weighting=CAPPED, audit=sabotaged)
        # What breaks the noise knows the toolkit's own mechanisms only.
        assert error.for_command_line == (
            "--sabotage=noise_off: does not go with --mechanism=mine; give one of "
            "gaussian, adaptive_gaussian, bounded_weight, tree, banded_matrix"
        )
        error = refusal(privacy=private, weighting=CAPPED, aggregator=Half())
        assert "half breaks the guarantee of mine: nobody knows" in str(error)
