"""scripts/federation demo: four processes, each with its own file, as a simulation."""

from __future__ import annotations

import csv
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tfl_research.cli.federation import demo, hospitals
from tfl_research.cli.federation.__main__ import main

ROOT = pathlib.Path(__file__).resolve().parents[3]
EQUAL = "The result equals the simulation's to the last bit"


def _site_processes(folder: pathlib.Path) -> list[int]:
    """The processes that run in a site's folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                here = pathlib.Path(os.readlink(entry / "cwd"))
            except OSError:
                continue
            if folder in here.parents:
                found.append(int(entry.name))
    return found


def _started(folder: pathlib.Path, rounds: int) -> subprocess.Popen:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tfl_research.cli.federation", "demo"),
            *(f"--folder={folder}", f"--rounds={rounds}"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _kill_in_the_first_round(folder: pathlib.Path) -> None:
    """Starts a demonstration and kills all that has no chance to end by itself."""
    killed = _started(folder, 2)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("untrained"):
            break
    assert len(_site_processes(folder / "sites")) == 4
    # The experiment is a process of its own, in the group; the sites are not.
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    end = time.monotonic() + 20
    while _site_processes(folder / "sites") and time.monotonic() < end:
        time.sleep(0.05)
    assert _site_processes(folder / "sites") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "killed", [False, pytest.param(True, marks=pytest.mark.campaign)]
)
def test_four_hospitals_train_as_their_simulation(tmp_path, killed):
    folder = tmp_path / "demo"
    if killed:
        _kill_in_the_first_round(folder)
    process = _started(folder, 2)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert EQUAL in output.splitlines()[-1]
    assert ("$ scripts/federation provision" in output) != killed
    assert f"report: {folder / 'run' / 'report.html'}" in output
    assert (folder / "run" / "report.html").stat().st_size > 0
    with open(folder / "run" / "metrics.csv", newline="") as file:
        rounds = list(csv.DictReader(file))
    assert [row["cohort_size"] for row in rounds] == ["4", "4"]
    for name in hospitals.NAMES:
        site = folder / "sites" / name
        assert {p.name for p in (site / "data").iterdir()} == {
            f"{name}.csv",
            "schema.json",
        }
        assert (site / "state" / "ledgers" / f"{name}.jsonl").stat().st_size > 0
    assert _site_processes(folder / "sites") == []


def test_the_hospitals_are_those_of_the_task(tmp_path):
    rows = {}
    for name in hospitals.NAMES:
        path = hospitals.write(name, tmp_path)
        with open(path, newline="") as file:
            rows[name] = list(csv.DictReader(file))
    counts = {name: len(own) for name, own in rows.items()}
    assert counts == {
        "cleveland": 304,
        "hungary": 293,
        "switzerland": 123,
        "va_long_beach": 200,
    }
    assert not {"id", "dataset", "num"} & set(rows["hungary"][0])
    assert {row["disease"] for row in rows["hungary"]} == {"yes", "no"}


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--engine=mail", "--engine=mail: must be one of local, flare, flower"),
        ("--rounds=0", "--rounds=0: must be at least 1"),
        ("--colour=red", "unknown argument '--colour=red'; scripts/federation demo"),
    ],
)
def test_what_is_refused_leaves_nothing(tmp_path, capsys, flag, message):
    folder = tmp_path / "demo"
    assert main(["demo", f"--folder={folder}", flag]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()


def test_a_result_that_differs_is_said(tmp_path, monkeypatch):
    from tfl_research.experiment.at_sites import compare

    monkeypatch.setattr(compare, "simulate", lambda *_, **__: tmp_path)
    monkeypatch.setattr(compare, "differences", lambda *_: ["weight 0 differs"])
    monkeypatch.setattr(compare, "only_in_simulation", lambda *_: ["eval_auc"])
    monkeypatch.setattr(compare, "median_seconds", lambda folder: 0.024)
    said: list[str] = []
    shown = demo.Demo(tmp_path, "local", 2, said.append)
    (tmp_path / "logs").mkdir()
    (tmp_path / "schema.json").write_text("{}")
    assert shown._compare() == 1
    assert said[-1] == "The result is NOT the simulation's."
    assert "differs from the simulation: weight 0 differs" in said
    assert any(line.startswith("not compared: eval_auc, because") for line in said)
    assert any("took 24 ms here and 24 ms in the simulation" in line for line in said)
