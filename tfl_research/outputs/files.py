"""The files and folders of a run's folder, and the class of each.

A name with a colon means a part of a file. A file that is not in the table is exact.
"""

from __future__ import annotations

from tfl_research.outputs.output import (
    DERIVED,
    EXACT,
    HELD_OUT,
    PRIVATE,
    PUBLIC,
    SECRET,
    TRAINING,
    Output,
)

CLIENTS, HELD_OUT_CLIENTS = "clients.csv", "clients.csv:held_out"
PERSONAL_CLIENTS = "personal_clients.csv"
MEMBERSHIP = "audit.json:membership"
BEST_MODEL, BEST_BY_NOISE = "export/best", "export/best:selection"

FILES = (
    Output("run_seed", SECRET, "Secret seed of noise and cohorts."),
    Output("checkpoints", SECRET, "States from which the run resumes.", TRAINING),
    Output("client_states.sqlite", SECRET, "States that clients keep.", TRAINING),
    Output("computation.json", SECRET, "Digests of the computation.", TRAINING),
    Output(
        "federation",
        SECRET,
        "What a coordinator keeps: sums of updates without its noise, and who is in "
        "them.",
        TRAINING,
    ),
    Output("runtime.json", SECRET, "How the rounds run, by measured times.", TRAINING),
    Output(".lock", PUBLIC, "Process that uses the folder."),
    Output("hparams.json", PUBLIC, "Settings, and versions of the code."),
    Output("columns.json", PUBLIC, "Class and meaning of each column."),
    Output("ledger.jsonl", PUBLIC, "Charged rounds."),
    Output("ledger.jsonl.head", PUBLIC, "Where the ledger ends."),
    Output("run_id", PUBLIC, "Id of the run in shared ledgers."),
    Output("privacy.txt", PUBLIC, "Privacy statement."),
    Output(
        "client_epsilon.csv",
        PUBLIC,
        "ε of each client's records; numbers of records are public.",
    ),
    Output("mlflow.json", PUBLIC, "Id of the MLflow run."),
    Output("SABOTAGED", PUBLIC, "Warning that the run tests an audit."),
    Output("export", PRIVATE, "Trained models.", TRAINING, "rounds"),
    Output("export/final", PRIVATE, "Model of the last round.", TRAINING, "rounds"),
    Output(
        BEST_BY_NOISE,
        PRIVATE,
        "Model of a round that the exponential mechanism chose.",
        TRAINING,
        "selection",
    ),
    Output(
        BEST_MODEL,
        DERIVED,
        "Model of the best round; the choice has the class of the column that decides.",
        TRAINING,
    ),
    Output("metrics.csv", DERIVED, "A row for each round."),
    Output(
        "metrics_copy.jsonl",
        DERIVED,
        "The rows of metrics.csv again, from which a damaged file is restored.",
    ),
    Output("traceback.txt", SECRET, "Where an error stopped a start.", TRAINING),
    Output(
        "measurements.jsonl",
        DERIVED,
        "Vectors and texts of each round; each has the class of a column of its name.",
    ),
    Output("summary.json", DERIVED, "Metrics of the untrained, final and best model."),
    Output("report.html", DERIVED, "Page about the run."),
    Output("logdir", DERIVED, "TensorBoard events: a tag for each column."),
    Output(
        CLIENTS,
        EXACT,
        "Name, metrics and number of test examples of each training client.",
        TRAINING,
    ),
    Output(
        HELD_OUT_CLIENTS,
        PRIVATE,
        "Name, metrics and number of test examples of each held-out client.",
        HELD_OUT,
        "rounds",
    ),
    Output(
        PERSONAL_CLIENTS,
        EXACT,
        "Metrics of the personal model of each training client.",
        TRAINING,
    ),
    Output(
        "audit.json",
        PRIVATE,
        "Audit by canaries, of released models.",
        TRAINING,
        "rounds",
    ),
    Output("canaries.svg", PRIVATE, "Picture of the audit.", TRAINING, "rounds"),
    Output(
        MEMBERSHIP,
        EXACT,
        "Attack that tells training examples from other examples.",
        TRAINING,
    ),
)


def is_of_table(name: str) -> bool:
    """Whether the toolkit itself writes a file or folder of this name."""
    return any(output.matches(name) for output in FILES)


def file(name: str) -> Output:
    """Returns the output for a file or folder; exact if the table lacks the name."""
    for output in FILES:
        if output.matches(name):
            return output
    return Output(name, EXACT, "A file of the user's own parts.", TRAINING)
