"""Which parts go together: every rule with what it says, without TensorFlow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfl_research import sampling, tasks
from tfl_research.aggregators import (
    AGGREGATORS,
    Bulyan,
    CoordinateMedian,
    Krum,
    NormClipping,
    RepeatedGeometricMedian,
    SignMajority,
    TrustedRoot,
)
from tfl_research.algorithms import (
    ALGORITHMS,
    FedBuff,
    FedDyn,
    FedExp,
    FedNova,
    Scaffold,
)
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment, compatibility, setup
from tfl_research.experiment.configs import (
    Attack,
    Audit,
    Baseline,
    Batches,
    Cohorts,
    Compression,
    Devices,
    RecordLevelPrivacy,
    Runtime,
    SecureSums,
    Silos,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.models.optimizers import SGD, Adam, ClientOptimizer
from tfl_research.privacy import MECHANISMS, MechanismSettings, mechanisms
from tfl_research.registry import registered
from tfl_research.sampling import NAMES as SAMPLERS

UNIFORM, CAPPED = Weighting("uniform"), Weighting("capped", 10)
RECORDS = RecordLevelPrivacy(record_noise_multiplier=1.0)
DEVICES = Devices(50)
SECURE = SecureSums(True)


def noised(mechanism="gaussian", **given):
    return UserLevelPrivacy(mechanism, noise_multiplier=1.0, **given)


def refusal(**parts) -> SettingError:
    experiment = Experiment(**{"task": "heart", **parts})
    with pytest.raises(SettingError) as raised:
        compatibility.check(experiment)
    return raised.value


LOCAL = {"privacy": noised("local_gaussian"), "cohorts": Cohorts("full")}
PRIVATE_DEVICES = {"privacy": noised(), "devices": Devices(9)}

ROOTED = TrustedRoot(root_examples=5)
# By rule: parts of an experiment, and what is said of them on a command line.
REFUSED = {
    "_devices": [
        (
            {"algorithm": "fed_buff"},
            "--devices is missing: fed_buff needs devices; give --devices",
        ),
        *(
            (
                {"algorithm": "fed_buff", "devices": Devices(50, **{name: value})},
                f"--{name}={value}: devices of fed_buff are not selected for rounds; "
                "leave it out",
            )
            for name, value in (
                ("over_selection", 2.5),
                ("minimum_cohort", 3),
                ("partial_work", True),
            )
        ),
        (
            {"devices": DEVICES, "privacy": RECORDS},
            "--devices=50: do not go with Poisson batches; leave --devices out",
        ),
        (
            {"devices": DEVICES, "cohorts": Cohorts("poisson")},
            "--sampler=poisson: --devices decides who takes part; give --sampler=fixed",
        ),
        (
            {"devices": DEVICES, "personal_evaluation": True},
            "--personal_evaluation: does not go with --devices; leave one of the two "
            "out",
        ),
        *(
            (
                {"devices": DEVICES, "silos": silos},
                "--silo_drop_out and --minimum_clients: do not go with --devices; "
                "give --drop_out and --minimum_cohort instead",
            )
            for silos in (Silos(0.1), Silos(minimum_clients=2))
        ),
        (
            {"devices": DEVICES, "baseline": Baseline("pooled")},
            "--train_on=pooled: one silo trains in every round; leave --devices out",
        ),
        (
            {"devices": DEVICES, "aggregator": TrustedRoot(root_examples=5)},
            "--aggregator=trusted_root: the server's own examples would be on a device "
            "that comes and goes; leave --devices out",
        ),
        *(
            (
                {"devices": Devices(9), "privacy": noised(name)},
                f"--devices=9: {name} needs a sampler that keeps a client's rounds "
                "apart, but --devices take part whenever they are available; give "
                "--mechanism=gaussian, or leave --devices out",
            )
            for name in ("tree", "banded_matrix")
        ),
        *(
            (
                {"devices": Devices(9), "privacy": noised(name)},
                f"--devices=9: {name} is noised by shares of its clients: a device "
                "that is late takes its share along, and who is late depends on the "
                "data; give --mechanism=gaussian, or leave --devices out",
            )
            for name in ("skellam", "discrete_gaussian")
        ),
        (
            {
                "devices": Devices(9),
                "privacy": noised(mechanisms.BoundedWeight(clipped_denominator=True)),
                "weighting": CAPPED,
            },
            "--clipped_denominator=True: is analysed for Poisson cohorts, but "
            "--devices are selected as they are available; leave one of them out",
        ),
        (
            {"devices": Devices(9, over_selection=1.3), "privacy": noised()},
            "--over_selection=1.3: with privacy a round takes every report that is in "
            "time, because the first reports tell who holds few examples; leave it "
            "out and raise --cohort_size",
        ),
        *(
            (
                {
                    "devices": Devices(9, availability_by_label=0.5),
                    "privacy": noised(name),
                },
                "--availability_by_label=0.5: a device's data would decide when it is "
                "available, and so who else is selected, and no noise covers that; "
                "leave it out",
            )
            for name in ("gaussian", "local_gaussian")
        ),
    ],
    "_exchanges": [
        *(
            (
                {"algorithm": "mime", **parts},
                "--algorithm=mime: needs the same clients in 2 rounds in a row; leave "
                "--devices, --silo_drop_out and --minimum_clients out",
            )
            for parts in (
                {"devices": DEVICES},
                {"silos": Silos(0.1)},
                {"silos": Silos(minimum_clients=2)},
            )
        ),
    ],
    "_silos": [
        (
            {"silos": Silos(0.1), "privacy": noised()},
            "--silo_drop_out and --minimum_clients: the accounts of user-level privacy "
            "do not cover clients that drop out; give --devices, or leave them out",
        ),
        (
            {
                "silos": Silos(minimum_clients=2),
                "aggregator": TrustedRoot(root_examples=5),
            },
            "--aggregator=trusted_root: the server's own examples are in every round; "
            "leave --silo_drop_out and --minimum_clients out",
        ),
    ],
    "_root": [
        *(
            (
                {"aggregator": ROOTED, "privacy": privacy},
                "--aggregator=trusted_root: the server's own examples are drawn from "
                "the clients' examples, and the guarantee does not cover them; give "
                "another rule, or leave privacy out",
            )
            for privacy in (noised(), noised("local_gaussian"), RECORDS)
        ),
        *(
            (
                {"aggregator": ROOTED, "algorithm": name},
                "--aggregator=trusted_root: the server trains on its own examples by "
                f"the clients' algorithm, and clients of {name} send or keep more than "
                "an update; give --algorithm=fed_avg or fed_prox",
            )
            for name in ("scaffold", "ditto")
        ),
        (
            {"aggregator": ROOTED, "compression": Compression("quantize")},
            "--compression=quantize: would code the update of the server's own "
            "examples too; leave it out, or give another rule than "
            "--aggregator=trusted_root",
        ),
    ],
    "_algorithm": [
        (
            {"algorithm": "scaffold", "weighting": Weighting("examples")},
            "--client_weighting=examples: scaffold weights all clients alike; give "
            "--client_weighting=uniform, or leave it out",
        ),
        (
            {"algorithm": "fed_nova", "client_optimizer": Adam(0.1)},
            "--client_optimizer=adam: fed_nova needs --client_optimizer=sgd",
        ),
        (
            {"algorithm": Scaffold(), "client_optimizer": SGD(0.1, 0.9)},
            "--client_momentum=0.9: scaffold (--scaffold_option=2) needs SGD without "
            "momentum; leave it out",
        ),
        (
            {
                "algorithm": FedNova(proximal_strength=11),
                "client_optimizer": SGD(0.1),
            },
            "--proximal_strength=11: times --client_learning_rate=0.1 must be at most "
            "1 under fed_nova; lower one of them",
        ),
        (
            {"algorithm": FedExp(), "server_optimizer": SGD(0.5)},
            "--server_learning_rate=0.5: fed_exp has a server step of its own; leave "
            "it out",
        ),
        (
            {"algorithm": "ifca", "aggregator": "clipping"},
            "--aggregator=clipping: clients of ifca send an update for each cluster, "
            "and the server takes the mean of these; give --aggregator=mean",
        ),
        (
            {"algorithm": FedDyn(), "aggregator": "compression"},
            "--aggregator=compression: clients of fed_dyn keep what they sent, and the "
            "server has to add up the same values; give --aggregator=mean",
        ),
        (
            {"algorithm": "scaffold", "aggregator": CoordinateMedian()},
            "--aggregator=coordinate_median: acts on updates alone, and clients of "
            "scaffold also send what their control variate changed by, and the server "
            "takes the mean of these; give --aggregator=mean",
        ),
        (
            {"algorithm": "mime", "compression": Compression("top_k")},
            "--compression=top_k: the server drops the updates of the first of 2 "
            "exchanges of mime, and error feedback would be lost with them; leave it "
            "out or choose another --algorithm",
        ),
        (
            {
                "algorithm": "ditto",
                "compression": Compression("quantize", error_feedback=True),
            },
            "--compression=quantize: clients of ditto keep a state of their own, so "
            "they cannot also keep the state of error feedback; give quantize, or "
            "random_k with --noerror_feedback, which need no state",
        ),
        (
            {"compression": Compression("quantize"), "aggregator": "compression"},
            "--compression=quantize: --aggregator=compression codes the updates too; "
            "leave one of them out",
        ),
        (
            {"compression": Compression("top_k"), "aggregator": CoordinateMedian()},
            "--compression=top_k: --aggregator=coordinate_median: coordinate_median "
            "treats every coordinate alone: where most clients send nothing it is "
            "zero; give quantize or low_rank, or a rule of whole updates, such as "
            "geometric_median",
        ),
    ],
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
            "--clipped_denominator=True: is analysed for --sampler=poisson; give that",
        ),
        (
            {"privacy": noised(ledger="l"), "training": Training(run_seed="7")},
            "--ledger=l: its total assumes that each run has noise of its own, but "
            "runs of one --run_seed have the same noise; leave --run_seed out, and a "
            "secret one is drawn",
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
            "--aggregator=norm_clipping: bucketing breaks the guarantee of gaussian: a "
            "bucket's mean is sound by itself, but what follows bucketing is a rule "
            "that selects or trims; use mean or norm_clipping, or noise that clients "
            "add themselves (local_gaussian, record_dp_sgd)",
        ),
        (
            {
                "privacy": noised(),
                "aggregator": NormClipping(clip_radius=1, on_breakdown="skip"),
            },
            "--aggregator=norm_clipping: gaussian noises a sum, for which no updates "
            "are stacked; leave --byzantine, --bucket_size, --neighbour_mixing and "
            "--on_breakdown out",
        ),
        (
            {**LOCAL, "weighting": CAPPED, "aggregator": CoordinateMedian()},
            "--client_weighting=capped: only updates are noised, so a rule that uses "
            "weights would see private weights; give --client_weighting=uniform",
        ),
    ],
    "record_level": [
        (
            {
                "privacy": dataclasses.replace(RECORDS, record_ledgers="l"),
                "training": Training(run_seed="7"),
            },
            "--record_ledgers=l: its total assumes that each run has noise of its "
            "own, but runs of one --run_seed have the same noise; leave --run_seed "
            "out, and a secret one is drawn",
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
    "_attack": [
        *(
            (
                {"attack": Attack("alie"), "aggregator": name},
                "--attack=alie: needs all updates of a round, but "
                f"--aggregator={name} never holds them together; give "
                "--aggregator=mean or a robust rule, or another --attack",
            )
            for name in ("zeroing", "secure", "repeated_geometric_median")
        ),
        (
            {"attack": Attack("sign_flip"), "algorithm": "scaffold"},
            "--attack=sign_flip: changes updates, and clients of scaffold send or keep "
            "more; give --algorithm=fed_avg or fed_prox",
        ),
        (
            {"attack": Attack("sign_flip"), "compression": Compression("quantize")},
            "--attack=sign_flip: is not simulated on coded updates; leave "
            "--compression out",
        ),
        (
            {"attack": Attack("sign_flip"), "devices": DEVICES},
            "--attack=sign_flip: simulated devices are honest; leave --devices out",
        ),
    ],
    "_aggregator": [
        (
            {"aggregator": RepeatedGeometricMedian(weiszfeld_steps=2)},
            "--weiszfeld_steps=2: each step is an aggregation of its own, which only "
            "--runtime=tff executes; give --runtime=tff, or --weiszfeld_steps=1",
        ),
        (
            {"aggregator": Krum(byzantine=1), "weighting": Weighting("examples")},
            "--client_weighting=examples: krum is defined for equal weights only; give "
            "--client_weighting=uniform",
        ),
        (
            {"aggregator": SignMajority()},
            "--aggregator=sign_majority: its result is -1, 0 or 1 in every coordinate, "
            "and the server's learning rate is the length of the step; give "
            "--server_learning_rate below 1, such as 0.003",
        ),
    ],
    "_secure_sums": [
        (
            {"aggregator": CoordinateMedian(), "secure_sums": SECURE},
            "--secure_sums=True: --aggregator=coordinate_median: coordinate_median "
            "needs every client's update, but under secure aggregation the server "
            "sees only the sum of the updates; use one of mean, robust, zeroing, "
            "clipping, secure, repeated_geometric_median, norm_clipping, sign_majority",
        ),
        (
            {
                "aggregator": NormClipping(clip_radius=1, byzantine=1),
                "secure_sums": SECURE,
            },
            "--secure_sums=True: --aggregator=norm_clipping needs every update of a "
            "round, but the server sees only their sum; give --aggregator=mean, or "
            "norm_clipping with --clip_radius alone",
        ),
        (
            {
                "aggregator": RepeatedGeometricMedian(weiszfeld_steps=2),
                "runtime": Runtime("tff"),
                "secure_sums": SECURE,
            },
            "--secure_sums=True: a round can have only one secure sum; give "
            "--weiszfeld_steps=1",
        ),
        (
            {"algorithm": "fed_dyn", "secure_sums": SecureSums(True, 32)},
            "--secure_sum_bits=32: clients of fed_dyn keep what they sent, and the "
            "server has to add up the same values, not rounded or clipped; leave it "
            "out",
        ),
        (
            {"compression": Compression("quantize"), "secure_sums": SECURE},
            "--compression=quantize: saves nothing under --secure_sums, which mask "
            "every coordinate; leave it out, and give --secure_sum_bits for smaller "
            "messages",
        ),
        (
            {"attack": Attack("alie"), "secure_sums": SECURE},
            "--attack=alie: needs all updates of a round, but --secure_sums hide them; "
            "leave one of them out",
        ),
        (
            {
                "privacy": noised(),
                "audit": Audit(sabotage="clip_off"),
                "secure_sums": SECURE,
            },
            "--sabotage=clip_off: breaks the bounds of --secure_sums; leave one of "
            "them out",
        ),
    ],
}
CASES = [
    (rule, index) for rule, cases in REFUSED.items() for index in range(len(cases))
]


def test_every_rule_is_here():
    assert list(REFUSED) == [rule.__name__ for rule in compatibility.RULES]


@pytest.mark.parametrize(("rule", "index"), CASES)
def test_what_a_rule_refuses(rule, index):
    parts, message = REFUSED[rule][index]
    error = refusal(**parts)
    assert error.for_command_line == message
    assert str(error) == message.replace("--", "")
    # The rule itself, and not another one that comes first.
    (function,) = (r for r in compatibility.RULES if r.__name__ == rule)
    with pytest.raises(SettingError) as raised:
        function(Experiment(**{"task": "heart", **parts}))
    assert raised.value.for_command_line == message


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"algorithm": FedBuff(), "devices": DEVICES},
        {"algorithm": FedBuff(), "devices": Devices(50, drop_out=0.5)},
        {"devices": Devices(9, over_selection=1.3, availability_by_label=1)},
        {"devices": DEVICES, "cohorts": Cohorts("fixed", 3)},
        PRIVATE_DEVICES,
        {**PRIVATE_DEVICES, "privacy": noised("local_gaussian")},
        {
            **PRIVATE_DEVICES,
            "privacy": noised("bounded_weight"),
            "weighting": CAPPED,
        },
        {"algorithm": "mime"},
        {"silos": Silos(0.2, 2), "privacy": RECORDS},
        {"silos": Silos(0.2, 2), "algorithm": "scaffold"},
        {"compression": Compression("quantize"), "aggregator": CoordinateMedian()},
        {"compression": Compression("top_k"), "aggregator": "geometric_median"},
        {"privacy": noised(), "algorithm": "fed_prox"},
        {"privacy": noised(), "aggregator": NormClipping(clip_radius=1)},
        {**LOCAL, "aggregator": Bulyan(byzantine=0)},
        {**LOCAL, "weighting": CAPPED},
        {"privacy": RECORDS, "aggregator": Krum(byzantine=0)},
        {"privacy": RECORDS, "batches": Batches(client_steps=3)},
        {"privacy": noised(), "audit": Audit(sabotage="clip_off")},
        {"privacy": noised(ledger="l"), "audit": Audit()},
        {"personal_evaluation": True, "algorithm": "ditto"},
        {"personal_evaluation": True},
        {"attack": Attack("alie")},
        {"attack": Attack("alie"), "aggregator": TrustedRoot(root_examples=5)},
        {"attack": Attack("gaussian"), "aggregator": "zeroing"},
        {"attack": Attack("backdoor"), "algorithm": "fed_prox"},
        {
            "aggregator": RepeatedGeometricMedian(weiszfeld_steps=2),
            "runtime": Runtime("tff"),
        },
        {"aggregator": RepeatedGeometricMedian(), "secure_sums": SECURE},
        {"aggregator": "robust", "secure_sums": SECURE, "weighting": CAPPED},
        {"aggregator": NormClipping(clip_radius=1), "secure_sums": SECURE},
        {"algorithm": "fed_nova", "secure_sums": SECURE},
        {"algorithm": "scaffold", "secure_sums": SECURE},
        {"algorithm": "fed_dyn", "secure_sums": SECURE},
        {"secure_sums": SECURE, "attack": Attack("sign_flip")},
        {"secure_sums": SECURE, "privacy": RECORDS},
        {"aggregator": SignMajority(), "server_optimizer": SGD(0.003)},
        {"baseline": Baseline("pooled"), "cohorts": Cohorts("full")},
        {"training": Training(run_seed="7"), "privacy": noised()},
    ],
)
def test_what_goes_together(parts):
    compatibility.check(Experiment(**{"task": "heart", **parts}))


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


class TestWithData:
    """Refusals of `Experiment.check` that need the data, and still no TensorFlow."""

    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            (
                {"cohorts": Cohorts(cohort_size=5)},
                "--cohort_size=5: there are 4 clients; give at most that many",
            ),
            (
                {"aggregator": Krum(byzantine=1)},
                "--aggregator=krum: krum for 1 hostile clients needs cohorts of at "
                "least 5 clients (arXiv 1703.02757: 2f + 2 < n), got at most 4; raise "
                "--cohort_size or lower --byzantine",
            ),
            (
                {"aggregator": Krum(byzantine=0), "cohorts": Cohorts("poisson", 3)},
                "--aggregator=krum: krum needs cohorts of at least 3 clients (arXiv "
                "1703.02757: 2f + 2 < n), but a round can have as few as 0; give "
                "--on_breakdown, which says what happens in such a round, or "
                "--sampler=fixed",
            ),
            (
                {
                    "aggregator": Krum(byzantine=0),
                    "silos": Silos(0.4, 2),
                    "weighting": UNIFORM,
                },
                "--aggregator=krum: krum needs cohorts of at least 3 clients (arXiv "
                "1703.02757: 2f + 2 < n), but a round can have as few as 2; give "
                "--on_breakdown, which says what happens in such a round, or "
                "--sampler=fixed",
            ),
            (
                {"baseline": Baseline("Oslo")},
                "--train_on=Oslo: there is no such silo; give pooled or one of "
                "Cleveland, Hungary, Switzerland, VA Long Beach",
            ),
            (
                {"training": Training(client_weight=("Oslo=2",))},
                "--client_weight=Oslo=2: the task has no client 'Oslo'",
            ),
            (
                {"privacy": noised("adaptive_gaussian"), "cohorts": Cohorts("full")},
                "--mechanism=adaptive_gaussian: a noise multiplier of 1 cannot be "
                "split for a cohort of 4; give --cohort_size=11 or more, or "
                "--clipped_count_stddev above 0.5",
            ),
            (
                {
                    "privacy": noised(
                        mechanisms.AdaptiveGaussian(clipped_count_stddev=0.5)
                    )
                },
                "--clipped_count_stddev=0.5: must be above half the noise multiplier, "
                "0.5",
            ),
            (
                {
                    "privacy": noised(mechanisms.BandedMatrix(bands=4)),
                    "cohorts": Cohorts("min_separation", 2, 2),
                },
                "--mechanism=banded_matrix: bands must be at most the 100 rounds and "
                "at most the sampler's min_separation of 2, got 4: use fewer bands, or "
                "the min_separation or cyclic_poisson sampler",
            ),
            (
                {"privacy": dataclasses.replace(RECORDS, microbatch_size=21)},
                "--microbatch_size=21: must be at most the expected batch size 20; "
                "lower it or raise --record_batch_size",
            ),
            (
                {"devices": Devices(9), "cohorts": Cohorts(cohort_size=10)},
                "--cohort_size=10: there are 9 clients; give at most that many",
            ),
            (
                {
                    "devices": Devices(9, minimum_cohort=4),
                    "cohorts": Cohorts(cohort_size=3),
                },
                "--minimum_cohort=4: must be at most --cohort_size=3",
            ),
            (
                {
                    "algorithm": FedBuff(concurrency=21),
                    "devices": Devices(24),
                    "cohorts": Cohorts(cohort_size=4),
                },
                "--devices=24: concurrency plus cohort_size is 25, but there are only "
                "24 devices; lower one of the two, or give more devices",
            ),
            (
                {"silos": Silos(minimum_clients=5)},
                "--minimum_clients=5: minimum must be from 1 to 4, the largest cohort, "
                "got 5",
            ),
            (
                {
                    "attack": Attack("backdoor", backdoor_target=3),
                    "aggregator": CoordinateMedian(),
                },
                "--backdoor_target=3: the task has classes 0 to 1",
            ),
            (
                {"aggregator": TrustedRoot(root_examples=100_000)},
                "--root_examples=100000: the clients have fewer examples; give at "
                "most as many as they have",
            ),
        ],
    )
    def test_refusals(self, parts, message):
        experiment = Experiment(**{"task": "heart", **parts})
        with pytest.raises(SettingError) as raised:
            experiment.check()
        found = raised.value.for_command_line
        assert "\n" not in found
        assert found == message
        assert str(raised.value) == found.replace("--", "")

    def test_availability_by_label_needs_a_label(self):
        y = np.zeros((5, 3), np.int32)
        tokens = tasks.from_arrays(
            {"a": {"x": y, "y": y}, "b": {"x": y, "y": y}},
            model=int,
            objective="next_token",
        )
        several = Experiment(tokens, devices=Devices(50, availability_by_label=0.5))
        with pytest.raises(SettingError) as raised:
            several.check()
        assert raised.value.for_command_line == (
            "--availability_by_label=0.5: this task's examples have no single label; "
            "leave it out"
        )

    def test_shared_examples_are_warned_of(self):
        shared = Experiment(
            "heart", **PRIVATE_DEVICES, cohorts=Cohorts(cohort_size=5.0)
        )
        with pytest.warns(UserWarning, match="9 devices hold the examples of 4 clie"):
            shared.check()

    def test_repeated_cohorts_of_several_exchanges(self):
        found = setup.prepare(Experiment("heart", algorithm="mime"))
        assert isinstance(found.cohorts, sampling.Repeated)
        assert found.cohorts.sample(1) == found.cohorts.sample(2)
        assert found.asked is found.reporting
