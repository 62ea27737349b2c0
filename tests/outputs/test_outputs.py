"""The table of outputs and the filter, by hand."""

from __future__ import annotations

import pytest

from tfl_research import outputs
from tfl_research.outputs import release as releases
from tfl_research.outputs.output import CLASSES

WITHHELD = outputs.Release(is_private=True, withholds=True)
ROW = {
    "round": 3,
    "cohort_size": 12,
    "excluded_clients": 1,
    "examples": 240.0,
    "train_loss": 0.5,
    "eval_accuracy": 0.75,
    "held_out_loss": 0.25,
    "clip_norm": 0.125,
    "private_accuracy": 0.7,
    "noise_multiplier": 1.0,
    "epsilon": 2.0,
    "shared_epsilon": 3.0,
    "delta": 1e-5,
    "bytes_up": 1000,
    "late": 2,
    "aggregator_excluded": 3.0,
    "aggregator_noise_stddev": 0.1,
    "of_my_own": 4.0,
    "round_seconds": 0.01,
}
COVERED = (
    "round",
    "held_out_loss",
    "clip_norm",
    "private_accuracy",
    "noise_multiplier",
    "epsilon",
    "shared_epsilon",
    "delta",
    "aggregator_noise_stddev",
)


def test_every_output_has_a_class_a_sentence_and_an_owner():
    for output in (*outputs.COLUMNS, *outputs.FILES):
        assert output.kind in CLASSES
        assert output.what.endswith(".")
        assert output.whose in (outputs.TRAINING, outputs.HELD_OUT, outputs.NOBODY)
        # A private output says which charge covers it, and no other output does.
        assert bool(output.paid_by) == (output.kind == outputs.PRIVATE)
        # What does not depend on data is not covered by anything.
        if output.kind == outputs.PUBLIC:
            assert output.whose == outputs.NOBODY
        if output.kind in (outputs.PRIVATE, outputs.EXACT):
            assert output.whose != outputs.NOBODY


def test_a_run_without_privacy_gives_out_everything():
    release = outputs.Release()
    assert release.row(ROW) == ROW
    assert all(release.covers(name) for name in ROW)
    assert all(release.shows_file(output.name) for output in outputs.FILES)


def test_public_data_are_shown_and_marked():
    release = outputs.Release(is_private=True)
    assert release.row(ROW) == ROW
    assert [name for name in ROW if release.covers(name)] == list(COVERED)


def test_other_data_are_withheld_and_an_unknown_column_with_them():
    assert list(WITHHELD.row(ROW)) == list(COVERED)
    assert not WITHHELD.shows("of_my_own")
    assert not WITHHELD.shows("aggregator_of_a_plugin")
    assert not WITHHELD.shows_file("clients.csv")
    assert not WITHHELD.shows_file("a_file_of_a_callback.txt")
    assert WITHHELD.shows_file("clients.csv:held_out")
    assert WITHHELD.shows_file("export/final")


def test_named_outputs_come_back_and_no_others():
    release = outputs.Release(
        is_private=True,
        withholds=True,
        named=frozenset(["eval_accuracy", "clients.csv", "aggregator_excluded"]),
    )
    back = {"eval_accuracy", "aggregator_excluded"}
    assert set(release.row(ROW)) == {*COVERED, *back}
    # Given out, and covered by nothing all the same.
    assert not any(release.covers(name) for name in back)
    assert release.shows_file("clients.csv")
    assert not release.shows_file("audit.json:membership")
    everything = outputs.Release(True, True, frozenset(["all"]))
    assert everything.row(ROW) == ROW
    assert everything.shows_file("clients.csv")


def test_splits_are_evaluated_if_something_of_them_is_given_out():
    assert not WITHHELD.shows_split("eval")
    assert WITHHELD.shows_split("held_out")
    for named in ("eval_loss", "clients.csv", "all"):
        release = outputs.Release(True, True, frozenset([named]))
        assert release.shows_split("eval"), named
    backdoor = outputs.Release(True, True, frozenset(["eval_backdoor_accuracy"]))
    assert backdoor.shows_split("eval_backdoor")
    assert not WITHHELD.shows_any("train_")
    assert outputs.Release(True, True, frozenset(["train_loss"])).shows_any("train_")


def test_cohort_sizes_that_settings_decide_are_public():
    release = outputs.Release(True, True, public=frozenset(["cohort_size"]))
    assert release.shows("cohort_size")
    assert release.covers("cohort_size")
    assert release.column("cohort_size").record() == {
        "class": "public",
        "depends_on": "none",
        "what": "Number of clients that took part in the round.",
    }
    assert not release.shows("bytes_up")


def test_the_clip_of_an_unknown_mechanism_is_exact():
    release = outputs.Release(True, True, unproven=frozenset(["clip_norm"]))
    assert not release.shows("clip_norm")
    assert release.column("clip_norm").kind == outputs.EXACT


def test_columns_are_described_with_class_and_charge():
    described = WITHHELD.described(ROW)
    assert list(described) == list(COVERED)
    assert described["private_accuracy"]["paid_by"] == "evaluation"
    assert described["held_out_loss"]["depends_on"] == "held-out clients"
    assert described["epsilon"]["class"] == "public"


@pytest.mark.parametrize(
    ("name", "is_exact"),
    [
        ("cohort_size", True),
        ("eval_auc", True),
        ("aggregator_excluded", True),
        ("clients.csv", True),
        ("audit.json:membership", True),
        ("epsilon", False),
        ("held_out_loss", False),
        ("aggregator_noise_stddev", False),
        ("run_seed", False),
        ("checkpoints", False),
        ("cohort", False),
        ("eval_*", False),
        ("", False),
    ],
)
def test_names_that_can_be_given_out(name, is_exact):
    assert releases.is_withheld_name(name) is is_exact
