"""What is said of rounds in which a rule could not keep its bound."""

import io
import math

import numpy as np

from tfl_research.program.progress import Progress, breakdown_line
from tfl_research.storage.metrics.round_metrics import round_row


def row(cohort_size=2, **aggregator):
    counts = {name: np.int32(value) for name, value in aggregator.items()}
    return round_row(3, cohort_size, {"aggregator": counts})


def test_rounds_without_a_breakdown_say_nothing():
    assert breakdown_line(row()) is None
    assert breakdown_line(row(skipped=0, fell_back=0, breakdowns=7, excluded=1)) is None
    assert breakdown_line(round_row(3, 2, {})) is None


def test_what_happened_is_one_line():
    skipped = breakdown_line(row(skipped=1, fell_back=0, excluded=0))
    assert skipped == (
        "warning: round 3: the aggregation rule cannot keep its bound (cohort 2): "
        "the round is skipped, and the model stays as it was"
    )
    fell_back = breakdown_line(row(9, skipped=0, fell_back=1, excluded=4))
    assert "(cohort 9, 4 excluded): the rule of --on_breakdown takes" in fell_back
    assert "\n" not in fell_back


def test_a_line_says_how_many_clients_secure_sums_clipped():
    row = {
        "round": 2,
        "cohort_size": 9,
        "train_loss": 0.5,
        "epsilon": math.inf,
        "secure_sums.clipped_clients": 0,
        "aggregator_mean_value_clipped_clients": 4,
        "aggregator_mean_weight_clipped_clients": 1,
    }
    stream = io.StringIO()
    Progress(3, stream=stream, bar=False).round_done(row)
    unclipped = {**row, "round": 3, "aggregator_mean_value_clipped_clients": 0}
    unclipped["aggregator_mean_weight_clipped_clients"] = 0
    Progress(3, stream=stream, bar=False).round_done(unclipped)
    assert stream.getvalue().splitlines() == [
        "round 2/3  cohort 9  loss 0.5  clients clipped by secure sums 4  ε inf",
        "round 3/3  cohort 9  loss 0.5  ε inf",
    ]
