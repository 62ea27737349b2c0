"""Which parts go together: every rule has cases; rules with data; no TensorFlow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import test_rules_of_aggregation
import test_rules_of_privacy
import test_rules_of_rounds
from compatibility_cases import (
    CAPPED,
    DEVICES,
    LOCAL,
    PRIVATE_DEVICES,
    RECORDS,
    SECURE,
    UNIFORM,
    noised,
)

from tfl_research import sampling, tasks
from tfl_research.aggregators import (
    Bulyan,
    CoordinateMedian,
    Krum,
    NormClipping,
    RepeatedGeometricMedian,
    SignMajority,
    TrustedRoot,
)
from tfl_research.algorithms import (
    FedBuff,
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
    Runtime,
    Silos,
    Training,
)
from tfl_research.models.optimizers import SGD
from tfl_research.privacy import mechanisms


def test_every_rule_has_cases():
    tables = (test_rules_of_rounds, test_rules_of_privacy, test_rules_of_aggregation)
    found = [rule for module in tables for rule in module.REFUSED]
    assert found == [rule.__name__ for rule in compatibility.RULES]


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
                "1703.02757: 2f + 2 < n), but a round can have as few as 0 clients; "
                "give --on_breakdown, which says what happens in such a round, or "
                "--sampler=fixed",
            ),
            (
                {
                    "aggregator": Krum(byzantine=0),
                    "silos": Silos(0.4, 2),
                    "weighting": UNIFORM,
                },
                "--aggregator=krum: krum needs cohorts of at least 3 clients (arXiv "
                "1703.02757: 2f + 2 < n), but a round can have as few as 2 clients; "
                "give --on_breakdown, which says what happens in such a round, or "
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
