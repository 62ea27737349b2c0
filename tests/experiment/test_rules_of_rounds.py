"""Devices, algorithms, silos and roots that do not fit the rest; no TensorFlow."""

from __future__ import annotations

import compatibility_cases
import pytest
from compatibility_cases import (
    CAPPED,
    DEVICES,
    RECORDS,
    ROOTED,
    noised,
)

from tfl_research.aggregators import (
    CoordinateMedian,
    TrustedRoot,
)
from tfl_research.algorithms import (
    FedDyn,
    FedExp,
    FedNova,
    Scaffold,
)
from tfl_research.experiment.configs import (
    Baseline,
    Cohorts,
    Compression,
    Devices,
    Silos,
    Weighting,
)
from tfl_research.models.optimizers import SGD, Adam
from tfl_research.privacy import mechanisms

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
                f"--devices=9: {name} gets its noise in shares from its clients: the "
                "share of a late device is missing, and who is late depends on the "
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
            "--compression=quantize: --aggregator=compression compresses the updates "
            "too; leave one of them out",
        ),
        (
            {"compression": Compression("top_k"), "aggregator": CoordinateMedian()},
            "--compression=top_k: --aggregator=coordinate_median: coordinate_median "
            "treats every coordinate alone: its result is zero where most clients send "
            "nothing; give quantize or low_rank, or a rule of whole updates, such as "
            "geometric_median",
        ),
    ],
}


@pytest.mark.parametrize(("rule", "index"), compatibility_cases.cases(REFUSED))
def test_what_a_rule_refuses(rule, index):
    compatibility_cases.check_refusal(rule, *REFUSED[rule][index])
