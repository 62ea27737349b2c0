"""A "~" in a path of a user's stands for the home folder, and is no folder's name.

A shell leaves it as it is in `--output_dir=~/run` and `--ledger=~/shared.jsonl`. Two
runs from two folders then had two ledgers, each with the whole budget.
"""

from __future__ import annotations

import json

import pytest

from tfl_research import report
from tfl_research.cli import report as report_command
from tfl_research.cli.preset import Output
from tfl_research.cli.tasks import describe_task
from tfl_research.errors import UserError
from tfl_research.experiment.sweeps import Sweep
from tfl_research.privacy.ledger import spending
from tfl_research.privacy.ledger.hash_chain import HashChain
from tfl_research.report.dashboard.watched import Watched
from tfl_research.storage import RunFolder


@pytest.fixture
def home(tmp_path, monkeypatch):
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield path
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_folders_of_runs_and_sweeps(home):
    assert Output(output_dir="~/run").folder == str(home / "run")
    assert Sweep("~/sweep", []).folder == home / "sweep"
    with RunFolder.open("~/run", {}):
        assert (home / "run" / "hparams.json").exists()


def test_a_shared_ledger(home):
    chain = HashChain("~/shared.jsonl")
    chain.close()
    assert chain.path == home / "shared.jsonl"
    assert (home / "shared.jsonl").exists()
    assert spending.ledger_path("~/shared.jsonl") == home / "shared.jsonl"


def test_pages(home):
    for name in ("a", "b"):
        (home / name).mkdir()
        (home / name / "hparams.json").write_text(json.dumps({"hparams": {}}))
        assert report.write(f"~/{name}") == home / name / "report.html"
    assert report_command.main(["~/a", "~/b"]) == 0
    assert (home / "comparison.html").exists()
    assert set(Watched("~").paths()) == {"a", "b"}


def test_drafts_and_pictures_of_tasks(home):
    (home / "silos").mkdir()
    for name in ("a", "b"):
        (home / "silos" / f"{name}.csv").write_text("age,ill\n1.5,0\n2.5,1\n")
    of_csv = ["csv", f"--data_dir={home / 'silos'}", "--label_column=ill"]
    assert describe_task.main([*of_csv, "--write_schema=~/draft.json"]) == 0
    assert (home / "draft.json").exists()
    assert describe_task.main(["heart", "--plot=~/labels.png"]) == 0
    assert (home / "labels.png").exists()


def test_a_home_that_nobody_knows_is_refused(home):
    with pytest.raises(UserError, match="the home folder of ~nobody-here is unknown"):
        RunFolder.open("~nobody-here/run", {})
