"""Which settings differ from their defaults, for a run's report."""

from __future__ import annotations

import json

import tfl_research as tfl
from tfl_research.experiment import changed_settings
from tfl_research.storage import RunFolder


def changed(**flat):
    experiment = tfl.Experiment.from_flat({"task": "heart", **flat})
    return changed_settings.changed_from(experiment)


def test_the_task_is_always_among_them():
    assert changed() == {"task": None}


def test_values_and_choices_with_their_defaults():
    found = changed(
        rounds=20, seed=0, algorithm="fed_prox", proximal_strength=0.5, sampler="full"
    )
    assert found == {
        "task": None,
        "rounds": 100,
        "algorithm": "fed_avg",
        "proximal_strength": 0.1,
        "sampler": None,
    }


def test_what_follows_from_other_settings_is_not_among_them():
    # The sampler and the clients' weights follow from the privacy.
    found = changed(privacy_unit="client", noise_multiplier=2.0, mechanism="tree")
    assert found == {
        "task": None,
        "privacy_unit": None,
        "noise_multiplier": None,
        "mechanism": "gaussian",
    }


def test_switches():
    found = changed(personal_evaluation=True, algorithm="ditto")
    assert found["personal_evaluation"] is False


def test_the_run_folder_records_them_and_may_be_resumed_with_others(tmp_path):
    def opened(**changes):
        with RunFolder.open(tmp_path / "run", {"rounds": 5}, changed_from=changes) as f:
            f.accept()
        return json.loads((tmp_path / "run" / "hparams.json").read_text())

    assert opened(rounds=100)["changed_from"] == {"rounds": 100}
    assert opened(rounds=float("inf"))["changed_from"] == {"rounds": "inf"}
    with RunFolder.open(tmp_path / "other", {"rounds": 5}):
        record = json.loads((tmp_path / "other" / "hparams.json").read_text())
    assert "changed_from" not in record
