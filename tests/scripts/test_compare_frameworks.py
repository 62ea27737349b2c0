"""scripts/compare_frameworks with made-up programs: runs, kills, counts, pages."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import process_tree
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmark.peers import environments  # noqa: E402
from compare import (  # noqa: E402
    __main__ as program,
    federated_task,
    forgotten,
    frameworks,
    installation,
    lines,
    measurement,
    outcomes,
    recorder,
    table,
    trial,
)

# A framework of NumPy: trains as the reference, and is told how to misbehave.
_FAKE = """
import os, pathlib, subprocess, sys, time
import numpy as np
from compare import federated_task, recorder

kind = os.environ.get("FAKE", "")
output = federated_task.output()
child = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
)
(output / "child").write_text(str(child.pid))
model, done = federated_task.initial(), 0
kept = output / "kept.npz"
if kind != "forgets" and kept.exists():
    with np.load(kept) as file:
        done = int(file["done"])
        model = [file[str(number)] for number in range(4)]
    if kind == "refuses":
        sys.exit("RuntimeError: the state is locked")
clients = [federated_task.client(n) for n in range(federated_task.NUM_CLIENTS)]
pids = pathlib.Path(os.environ.get("FAKE_PIDS", "none"))
if kind == "waits in the second run":
    before = pids.with_suffix(".first")
    if before.exists():
        pids.with_suffix(".part").write_text(f"{os.getpid()} {child.pid}")
        pids.with_suffix(".part").replace(pids)
        time.sleep(600)
    before.touch()
for number in range(done + 1, federated_task.rounds() + 1):
    if kind == "stops" and number == 3:
        raise ValueError("dropped out")
    _, model = federated_task.reference(clients, model, 1)
    if kind == "other":
        model = [array * np.float32(1.5) for array in model]
    np.savez(kept, done=number, **{str(i): a for i, a in enumerate(model)})
    recorder.round_done(number, [model[0].T, model[1], model[2].T, model[3]])
print("epsilon is infinite")
"""
_FACT = frameworks.Fact("none", "privacy.md")
ROUNDS = 4


@pytest.fixture(scope="module")
def standard(tmp_path_factory):
    """A small task: ten clients with 40 images of noise each."""
    generator = np.random.default_rng(0)
    clients = [
        (
            generator.random((40, 784), dtype=np.float32),
            generator.integers(0, 10, 40).astype(np.int32),
        )
        for _ in range(federated_task.NUM_CLIENTS)
    ]
    folder, weights = tmp_path_factory.mktemp("task"), federated_task.glorot(0)
    federated_task.write(folder, clients, clients[0], weights)
    first, last = federated_task.reference(clients, weights, ROUNDS)
    return measurement.Yardstick(folder, clients[0], first, last)


@pytest.fixture
def fake(tmp_path, monkeypatch, standard):
    """kind -> the result of a framework that behaves so, and what was said."""
    path = tmp_path / "fake.py"
    path.write_text(_FAKE)
    monkeypatch.setattr(trial, "_POLL_SECONDS", 0.01)
    framework = frameworks.Framework(
        "Fake 1", None, (), "import fake", str(path), "", _FACT, _FACT, _FACT
    )
    monkeypatch.setitem(frameworks.FRAMEWORKS, "fake", framework)

    def measure(kind, rounds=ROUNDS, runs=1, machine="here"):
        setting = measurement.Setting(rounds, runs, "today", machine)
        monkeypatch.setenv("FAKE", kind)
        said = []
        found = measurement.Measurement(
            framework, setting, standard, tmp_path / "fake.json", said.append
        ).run()
        assert json.loads((tmp_path / "fake.json").read_text()) == found
        return found, said

    return measure


def test_the_reference_is_sgd_and_a_weighted_mean():
    # With weights of zero all classes have probability 0.1: the gradient of the last
    # bias is 0.1 but for the labels. Two batches of a client, one of the other.
    weights = [np.zeros(w.shape, np.float32) for w in federated_task.glorot(0)]
    ones = np.ones((1, 784), np.float32)
    clients = [(ones, np.array([2])), (np.repeat(ones, 20, 0), np.full(20, 7))]
    first, last = federated_task.reference(clients, weights, 1)
    expected = np.full(10, -federated_task.RATE * 0.1)
    expected[2] += federated_task.RATE * 1 / 21
    expected[7] += federated_task.RATE * 20 / 21
    np.testing.assert_allclose(last[3], expected, atol=1e-7)
    assert all(a is b for a, b in zip(first, last))
    assert not last[0].any()


def test_a_framework_that_resumes(fake):
    found, said = fake("")
    assert said == ["installation", "environment", "run1", "kill"]
    run = found["run1"]
    assert len(run["round_seconds"]) == ROUNDS - 1
    # The program and its child.
    assert run["processes"] == 2
    assert run["peak_bytes"] > 20e6
    assert run["cpu_seconds"] > 0
    assert run["epsilon_lines"] == 1
    assert run["last_distance"] == 0
    assert outcomes.is_same_work(found)
    assert found["kill"] == {
        "killed_after": 2,
        "first_round_after": 3,
        "same_bits": True,
        "distance": 0,
    }
    assert outcomes.resumption(found) == "yes, to the same bits"
    # What is done is not done again, unless the setting is another; runs are added.
    assert fake("other") == (found, [])
    more, said = fake("", runs=2)
    assert said == ["environment", "run2"]
    assert more["run1"] == run
    # A table mixes no runs of two machines.
    _, said = fake("", machine="there (load 2.0 at the start)")
    assert said[0] == "fake.json was measured on another machine, here; measuring again"
    assert said[-2:] == ["run1", "kill"]
    _, said = fake("", ROUNDS + 1, machine="there (load 9.0 at the start)")
    assert said[0] == "fake.json is of another program or setting; measuring again"


def test_other_code_of_the_toolkit_is_measured_again(monkeypatch):
    setting = measurement.Setting(ROUNDS, 1)
    chosen = [frameworks.FRAMEWORKS[name] for name in ("ours", "pfl")]
    ours, pfl = (measurement.identity(one, setting) for one in chosen)
    monkeypatch.setattr(measurement.held, "code", lambda folders: f"other {folders}")
    assert measurement.identity(chosen[0], setting) != ours
    assert measurement.identity(chosen[1], setting) == pfl


@pytest.mark.parametrize(
    ("kind", "resumes"),
    [
        ("forgets", "no: starts again at round 1"),
        ("refuses", "no: it ended without a round: RuntimeError: the state is locked"),
    ],
)
def test_a_framework_that_does_not_resume(fake, kind, resumes):
    found, _ = fake(kind)
    assert outcomes.resumption(found) == resumes


def test_other_work_and_the_load_are_said(fake, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (17.25, 1.0, 1.0))
    found, _ = fake("other")
    assert not outcomes.is_same_work(found)
    notes = dict.fromkeys(("reference", "rounds"), "x")
    page = table.page({"fake": found}, notes)
    assert "| **no** |" in page
    assert "| 17.2 | yes, to the same bits |" in page


def test_a_program_that_fails_is_not_run_again(fake):
    found, _ = fake("stops")
    assert found["absent"] == "it ended after round 2: ValueError: dropped out"
    assert "run1" not in found
    assert fake("") == (found, [])


def test_an_interrupted_measurement_goes_on(fake, monkeypatch, tmp_path):
    real = measurement.Measurement._killed

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(measurement.Measurement, "_killed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fake("")
    # What there is so far can be shown.
    partial = json.loads((tmp_path / "fake.json").read_text())
    notes = dict.fromkeys(("reference", "rounds"), "x")
    assert f"| Fake 1 | 1 | {partial['lines']} | 0." in table.page(
        {"fake": partial}, notes
    )
    monkeypatch.setattr(measurement.Measurement, "_killed", real)
    found, said = fake("")
    assert said == ["environment", "kill"]
    assert {"installation", "lines", "run1", "kill"} <= set(found)


def test_a_run_that_ends_leaves_no_process(standard, tmp_path):
    path = tmp_path / "fake.py"
    path.write_text(_FAKE)
    seen = trial.run(
        [sys.executable, str(path)],
        standard.folder,
        tmp_path / "run",
        paths=[str(ROOT / "scripts")],
        rounds=2,
    )
    assert [line["round"] for line in seen.rounds] == [1, 2]
    child = (tmp_path / "run" / "child").read_text()
    status = pathlib.Path("/proc") / child / "status"
    # Gone, or a zombie that nobody has waited for.
    assert not status.exists() or "State:\tZ" in status.read_text()


# scripts/compare_frameworks with one framework of NumPy, and a task of noise.
_DRIVER = """
import pathlib, sys
from benchmark import driver
from compare import __main__ as program, federated_task, frameworks, measurement

fact = frameworks.Fact("none", "privacy.md")
frameworks.FRAMEWORKS.clear()
frameworks.FRAMEWORKS["fake"] = frameworks.Framework(
    "Fake 1", None, (), "import fake", sys.argv.pop(1), "", fact, fact, fact
)

def yardstick(folder, rounds):
    import numpy as np
    x, y = np.ones((20, 784), np.float32), np.arange(20, dtype=np.int32) % 10
    weights = federated_task.glorot(0)
    federated_task.write(folder, [(x, y)] * 10, (x, y), weights)
    first, last = federated_task.reference([(x, y)] * 10, weights, rounds)
    return measurement.Yardstick(folder, (x, y), first, last)

program.yardstick = yardstick
sys.exit(driver.run("scripts/compare_frameworks", program.main))
"""


def _awaited(condition, process):
    """Waits until a condition holds; nothing is timed but a failure."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_driver_leaves_no_process_and_goes_on(tmp_path):
    (tmp_path / "fake.py").write_text(_FAKE)
    (tmp_path / "driver.py").write_text(_DRIVER)
    (tmp_path / "tmp").mkdir()
    result, pids = tmp_path / "out" / "frameworks" / "fake.json", tmp_path / "pids"

    def start(kind):
        return subprocess.Popen(
            [
                *(
                    sys.executable,
                    str(tmp_path / "driver.py"),
                    str(tmp_path / "fake.py"),
                ),
                *("--again", "--runs=2", "--rounds=4", f"--output_dir={tmp_path}/out"),
            ],
            env={
                **os.environ,
                "FAKE": kind,
                "FAKE_PIDS": str(pids),
                "TMPDIR": str(tmp_path / "tmp"),
                "PYTHONPATH": os.pathsep.join((str(ROOT / "scripts"), str(ROOT))),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    killed = start("waits in the second run")
    _awaited(pids.exists, killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    first = json.loads(result.read_text())
    assert "run1" in first
    assert "run2" not in first
    # The program and its child, which has a session of its own, and their files.
    for pid in pids.read_text().split():
        end = time.monotonic() + 120
        while process_tree.is_alive(int(pid)) or any((tmp_path / "tmp").iterdir()):
            assert time.monotonic() < end, pid
            time.sleep(0.02)

    # The same command measures what is missing, in spite of --again.
    second = start("")
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    found = json.loads(result.read_text())
    assert found["run1"] == first["run1"]
    assert {"run2", "kill"} <= set(found)
    assert "Fake 1: going on where --again was interrupted" in err
    assert "1 of 1, Fake 1: run2" in err
    assert "run1" not in err
    assert f"results: {result.parent}" in err
    assert "| Fake 1 | 2 |" in out
    assert not any((tmp_path / "tmp").iterdir())
    # Now --again means again.
    assert not (result.parent / ".again").exists()


def test_again_forgets_once_until_all_are_measured(tmp_path):
    def forget():
        for name in ("a", "b"):
            (tmp_path / f"{name}.json").write_text("{}")
        removed = forgotten.Forgotten(tmp_path / ".again")
        return removed, [name for name in ("a", "b") if removed.forget(name)]

    removed, names = forget()
    assert names == ["a", "b"]
    assert not list(tmp_path.glob("*.json"))
    assert forget()[1] == []
    assert len(list(tmp_path.glob("*.json"))) == 2
    removed.end(["a"])
    assert forget()[1] == ["a"]
    removed.end(["a", "b"])
    assert forget()[1] == ["a", "b"]


def test_an_environment_that_is_missing_is_tried_again(fake, monkeypatch):
    def unavailable(_):
        raise environments.PeerUnavailable("fake needs Python 3.8, found 3.11")

    monkeypatch.setattr(frameworks.Framework, "interpreter", unavailable)
    found, _ = fake("")
    assert outcomes.absence(found) == "fake needs Python 3.8, found 3.11"
    notes = dict.fromkeys(("reference", "rounds"), "x")
    page = table.page({"fake": found}, notes)
    assert "- Fake 1: fake needs Python 3.8, found 3.11" in page
    monkeypatch.undo()
    monkeypatch.setattr(trial, "_POLL_SECONDS", 0.01)
    found, _ = fake("")
    assert outcomes.absence(found) == ""
    assert "run1" in found


def test_a_program_that_hangs_is_given_up(standard, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "PATIENCE_SECONDS", 0.3)
    path = tmp_path / "hangs.py"
    path.write_text("import time; print('waiting', flush=True); time.sleep(600)")
    with pytest.raises(trial.TrialFailed, match=r"no round .* its log ends: waiting"):
        trial.run(
            [sys.executable, str(path)], standard.folder, tmp_path, paths=[], rounds=2
        )


def test_a_line_that_is_cut_short_is_no_round(tmp_path):
    line = json.dumps({"round": 1, "came": 0.0, "went": 1.0})
    (tmp_path / recorder.LINES).write_text(f'{line}\n{{"round": 2, "ca')
    assert trial.read_rounds(tmp_path) == [json.loads(line)]


def test_a_model_of_other_shapes_is_refused(tmp_path):
    np.savez(tmp_path / "model1.npz", **{"0": np.zeros(3)})
    with pytest.raises(trial.TrialFailed, match=r"has the shapes \[\(3,\)\]"):
        trial.model(tmp_path, 1)


def test_lines_with_code_count():
    source = '"""What it is.\n\nMore.\n"""\n\nimport a  # measured\nimport b\n\n\n'
    source += 'def f(\n    x,\n):\n    """Does."""\n    # Why.\n    return """\n\n"""\n'
    # import b, the three lines of def, and the three of return.
    assert lines.of_python(source) == 1 + 3 + 3
    # A line of a statement, and a whole one.
    assert lines.of_python("f(\n    a,  # measured\n    b,\n)\n") == 3
    assert lines.of_python("f(\n    a,\n    b,\n)  # measured\ng()\n") == 1
    assert lines.of_settings("# what\n\na: 1\nb: 2  # measured\n") == 1
    for framework in frameworks.FRAMEWORKS.values():
        assert lines.of_files(framework.files) > 5


def test_the_reason_of_a_failed_installation():
    log = (
        "Collecting x==1\nLooking in indexes: https://host.example/simple\n"
        "ERROR: Ignored the following versions that require a different python\n"
        "ERROR: Could not find a version that satisfies jaxlib==0.4.14 "
        "(https://host.example/jaxlib)\nERROR: No matching distribution found\n"
    )
    assert installation.reason(log) == (
        "ERROR: Could not find a version that satisfies jaxlib==0.4.14 (…"
    )
    assert installation.reason("killed\n") == "killed"
    assert installation.reason("") == "no word"


def test_an_installation_is_tried_and_removed(monkeypatch, tmp_path):
    made = []

    def make(folder, base, packages):
        made.append((folder, packages))
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(environments, "make", make)
    monkeypatch.setattr(environments, "python_for", lambda name: sys.executable)
    framework = frameworks.FRAMEWORKS["pfl"]
    for statement, works in (("import json", True), ("import no_such_module", False)):
        changed = {**vars(framework), "statement": statement}
        found = installation.tried(frameworks.Framework(**changed))
        assert (found["installs"], found["works"]) == (True, works)
    assert found["error"].endswith("No module named 'no_such_module'")
    assert made[0][1] == ["pfl==0.6.0"]
    assert not made[0][0].exists()


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--frameworks=ours,other"], "--frameworks: 'other' is not one of ours,"),
        (["--frameworks="], "--frameworks is empty"),
        (["--frameworks=ours", "--again=pfl"], "--again: pfl is not among"),
        (["--rounds=3"], "--rounds must be at least 4, got 3"),
        (["--runs=0"], "--runs must be at least 1, got 0"),
    ],
)
def test_wrong_flags_are_one_line(flags, why, capsys):
    with pytest.raises(SystemExit):
        program.parse(flags)
    assert why in capsys.readouterr().err


def test_a_result_that_is_none_is_refused(fake, tmp_path):
    (tmp_path / "fake.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"fake\.json: not a result of this script"):
        fake("")


def test_every_framework_has_files_and_pages():
    for name, framework in frameworks.FRAMEWORKS.items():
        assert all(file.is_file() for file in framework.files), name
        if framework.environment is not None:
            assert environments.requirements_of(framework.environment).is_file()
            assert framework.environment in environments.ENVIRONMENTS
    for title, text, page in frameworks.fact_rows():
        assert text, title
        assert page.startswith("https://") or (ROOT / "docs" / page).is_file(), title


@pytest.mark.campaign
def test_a_real_framework(tmp_path):
    standard = program.yardstick(tmp_path, 4)
    assert standard.test[0].shape[1] == 784
    found = measurement.Measurement(
        frameworks.FRAMEWORKS["ours"],
        measurement.Setting(4, 1),
        standard,
        tmp_path / "ours.json",
        print,
    ).run()
    assert outcomes.is_same_work(found)
    assert outcomes.resumption(found) == "yes, to the same bits"


def test_the_readme_says_what_was_measured():
    """Accuracies, lines and resumption in README.md are those of docs/results."""
    text = (ROOT / "README.md").read_text()
    rows = 0
    for name, framework in frameworks.FRAMEWORKS.items():
        path = ROOT / "docs" / "results" / "frameworks" / f"{name}.json"
        if path.exists():
            found = json.loads(path.read_text())
            assert table.readme_row(framework.title, found) in text, name
            rows += 1
    assert rows > 0
