"""scripts/federation export: the flags of the experiment, and what is refused."""

from __future__ import annotations

import pytest

from tfl_research.cli.federation.__main__ import main
from tfl_research.experiment.at_sites import engine_jobs


def _export(folder, *more: str) -> int:
    return main(["export", "--engine=flare", f"--folder={folder}", *more])


def test_the_experiment_has_the_flags_that_follow(tmp_path, capsys, monkeypatch):
    asked = []

    def export(experiment, engine, folder, **options):
        asked.append((experiment.flat(), engine, folder, options))
        return folder / "job"

    monkeypatch.setattr(engine_jobs, "export", export)
    folder = tmp_path / "article"
    flags = ["--task=heart", "--rounds=7", "--experiment=experiments/fed_prox.py"]
    assert _export(folder, *flags, "--minimum_sites=3", "--site_weight=north=0.5") == 0
    ((flat, engine, where, options),) = asked
    assert (flat["task"], flat["rounds"], flat["algorithm"]) == ("heart", 7, "fed_prox")
    assert (engine, where) == ("flare", folder)
    assert options == {
        "minimum_sites": 3,
        "site_weights": {"north": 0.5},
        "fraction_fit": 1.0,
    }
    printed = capsys.readouterr().out
    assert f"--job={folder / 'job'}" in printed
    assert "--train_for=experiment.json" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task=heart", "--round=3"], "unknown flag --round"),
        (["--minimum_sites=0"], "--minimum_sites=0: must be at least 1"),
        (["--fraction_fit=2"], "--fraction_fit=2: must be above 0, at most 1"),
        (["--site_weight=north"], "--site_weight=north: must be SITE=WEIGHT"),
        (["--experiment=setup.txt"], "--experiment=setup.txt: is not a program"),
        ([], "--task is missing"),
    ],
)
def test_what_is_refused_leaves_nothing(tmp_path, capsys, flags, message):
    folder = tmp_path / "article"
    assert _export(folder, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not folder.exists()
