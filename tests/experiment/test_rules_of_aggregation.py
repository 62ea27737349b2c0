"""Attacks, aggregators and secure sums that do not fit the rest; no TensorFlow."""

from __future__ import annotations

import compatibility_cases
import pytest
from compatibility_cases import (
    DEVICES,
    SECURE,
    noised,
)

from tfl_research.aggregators import (
    CoordinateMedian,
    Krum,
    NormClipping,
    RepeatedGeometricMedian,
    SignMajority,
)
from tfl_research.experiment.configs import (
    Attack,
    Audit,
    Compression,
    Runtime,
    SecureSums,
    Weighting,
)

# By rule: parts of an experiment, and what is said of them on a command line.
REFUSED = {
    "_attack": [
        *(
            (
                {"attack": Attack("alie"), "aggregator": name},
                f"--attack=alie: needs all updates of a round, but --aggregator={name} "
                "never has all of them at once; give --aggregator=mean or a robust "
                "rule, or another --attack",
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
            "--attack=sign_flip: is not simulated on compressed updates; leave "
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


@pytest.mark.parametrize(("rule", "index"), compatibility_cases.cases(REFUSED))
def test_what_a_rule_refuses(rule, index):
    compatibility_cases.check_refusal(rule, *REFUSED[rule][index])
