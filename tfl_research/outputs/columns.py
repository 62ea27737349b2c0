"""The columns of metrics.csv, and the class of each.

The first output whose name or pattern fits a column's name decides. A column that is
not in the table is exact: nobody has checked how the column is computed.

Cohort sizes, bytes and counts of clients are exact, since under Poisson sampling they
depend on which clients exist. `Release.public` names the columns that are public in one
run.
"""

from __future__ import annotations

from tfl_research.outputs.output import (
    EXACT,
    HELD_OUT,
    PRIVATE,
    PUBLIC,
    TRAINING,
    Output,
)

# Beginnings of the columns of an evaluation.
EVALUATED = ("eval_", "held_out_", "private_")
# Columns that say how many clients took part.
COHORT = ("cohort_size", "bytes_down", "bytes_up", "selected", "dropped_out")

COLUMNS = (
    Output("round", PUBLIC, "Number of the round."),
    Output("epsilon", PUBLIC, "ε of this run after the round."),
    Output("delta", PUBLIC, "δ of ε."),
    Output("noise_multiplier", PUBLIC, "Noise over the clip in the round."),
    Output("client_learning_rate", PUBLIC, "Learning rate of the clients' optimizer."),
    Output("server_learning_rate", PUBLIC, "Learning rate of the server's optimizer."),
    Output(
        "abandoned",
        PUBLIC,
        "Whether too few clients could report, whatever their data are.",
    ),
    Output(
        "clip_norm",
        PRIVATE,
        "The clip: a setting, or the adaptive clip, which follows a noisy count.",
        TRAINING,
        "rounds",
    ),
    Output(
        "shared_epsilon",
        PRIVATE,
        "ε of all runs of the shared ledger together after the round.",
        TRAINING,
        "rounds",
    ),
    Output(
        "private_accuracy",
        PRIVATE,
        "Mean over the training clients of the accuracy on their test examples, with "
        "Gaussian noise.",
        TRAINING,
        "evaluation",
    ),
    Output(
        "private_choice",
        PRIVATE,
        "The round of the best model, by the exponential mechanism; in summary.json.",
        TRAINING,
        "selection",
    ),
    Output(
        "aggregator_noise_stddev*",
        PRIVATE,
        "Standard deviation of the noise that the server adds to the mean.",
        TRAINING,
        "rounds",
    ),
    Output("held_out_*", PRIVATE, "Metric of the model.", HELD_OUT, "rounds"),
    Output(
        "cohort_size", EXACT, "Number of clients that took part in the round.", TRAINING
    ),
    Output("examples", EXACT, "Number of training examples of the round.", TRAINING),
    Output(
        "excluded_clients",
        EXACT,
        "Number of clients whose update was not finite.",
        TRAINING,
    ),
    Output(
        "excluded_by_client",
        EXACT,
        "Clients whose update was not finite, and why; in measurements.jsonl.",
        TRAINING,
    ),
    Output("train_*", EXACT, "Metric of the cohort while it trains.", TRAINING),
    Output("eval_*", EXACT, "Metric on the training clients' test examples.", TRAINING),
    Output("bytes_down", EXACT, "Bytes to the clients of the round.", TRAINING),
    Output("bytes_up", EXACT, "Bytes from the clients of the round.", TRAINING),
    Output("selected", EXACT, "Number of clients that the round asked.", TRAINING),
    Output(
        "dropped_out", EXACT, "Number of clients that did not report at all.", TRAINING
    ),
    Output("late", EXACT, "Number of clients that reported too late.", TRAINING),
    Output(
        "mean_staleness",
        EXACT,
        "Mean number of server steps since the clients began.",
        TRAINING,
    ),
    Output(
        "simulated_seconds",
        EXACT,
        "Simulated clock at the end of the round.",
        TRAINING,
    ),
    Output(
        "round_seconds",
        EXACT,
        "Time of the round, which depends on who took part.",
        TRAINING,
    ),
    Output("aggregator_*", EXACT, "Measurement of the aggregator.", TRAINING),
)


def column(name: str) -> Output:
    """Returns the output for a column of metrics.csv; exact if not in the table."""
    for output in COLUMNS:
        if output.matches(name):
            return output
    return Output(name, EXACT, "A column of the user's own parts.", TRAINING)


def is_column_of_table(name: str) -> bool:
    """Whether the table has a column, under its name or under a pattern."""
    return any(output.matches(name) for output in COLUMNS)
