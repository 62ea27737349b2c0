"""scripts/privacy_ledger: show, verify and plan, without TensorFlow."""

from __future__ import annotations

import dataclasses
import decimal
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tfl_research import privacy
from tfl_research.cli.ledger import ledger_tables
from tfl_research.privacy.accounting import totals
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.ledger import head_file, ledger_plots
from tfl_research.storage import Checkpoint, CheckpointStore

EVENT = GaussianEvent("none", 20.0, 1.0, 900, 30.0, "add_or_remove_one")
OTHER = dataclasses.replace(EVENT, noise_multiplier=30.0)
PEOPLE = privacy.Population.of(map(str, range(900)))
RUNS = (("first", EVENT, 40), ("second", OTHER, 25))
_PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two run folders and the ledger that they share."""
    root = tmp_path_factory.mktemp("runs")
    for name, event, rounds in RUNS:
        folder = root / name
        folder.mkdir()
        own = privacy.Ledger(folder / "ledger.jsonl")
        shared = privacy.SharedLedger(
            root / "shared.jsonl", privacy.run_id(folder), PEOPLE
        )
        with own, shared:
            for number in range(1, rounds + 1):
                shared.record(number, event)
                own.record(number, event)
    return root


@pytest.fixture
def root(written, tmp_path):
    """A copy of `written`."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def ledger(root):
    return root / "shared.jsonl"


def shown(epsilon):
    """Four significant digits, rounded up: what is printed is a bound."""
    value = decimal.Decimal(repr(epsilon))
    last = decimal.Decimal(1).scaleb(value.adjusted() - 3)
    return f"{float(value.quantize(last, decimal.ROUND_CEILING)):.4g}"


def test_show_by_run_and_in_all(call, root, ledger):
    code, out, err = call("show", ledger)
    assert (code, err) == (0, "")
    delta = privacy.default_delta(900)
    rows = [line.split() for line in out.splitlines()]
    for row, (name, event, rounds) in zip(rows[1:3], RUNS):
        epsilon = privacy.composed_epsilon([(event, rounds)], delta)
        assert row[0] == privacy.run_id(root / name)
        assert row[1:3] == ["gaussian", f"z={event.noise_multiplier:g}"]
        assert row[-2:] == [str(rounds), shown(epsilon)]
    groups = [(event, rounds) for _, event, rounds in RUNS]
    total = privacy.composed_epsilon(groups, delta)
    assert rows[3] == ["all", "together", "65", shown(total)]
    assert "unit of privacy client, neighbouring relation add_or_remove_one" in out
    for other in (1e-5, 1e-6, 1e-8, 1e-10):
        epsilon = shown(privacy.composed_epsilon(groups, other))
        assert re.search(rf"^{shown(other)} +{re.escape(epsilon)}$", out, re.M)


def test_a_plot_composes_little_more_than_the_table(
    call, ledger, tmp_path, monkeypatch
):
    composed, compose = [], totals.composed_total
    monkeypatch.setattr(
        totals,
        "composed_total",
        lambda groups, *rest: (
            composed.append((groups, *rest)),
            compose(groups, *rest),
        )[1],
    )
    ledger_tables.forget()
    code, _, _ = call("show", ledger, f"--plot={tmp_path / 'x.png'}")
    assert code == 0
    # The table's 2 runs and 5 δ, and 15 points of curves, of which 2 are in the table.
    assert len(composed) == len(set(composed)) <= 20


@pytest.mark.parametrize(("runs", "curves"), [(3, 3), (40, 1)])
def test_a_plot_of_many_runs_is_as_cheap(call, tmp_path, monkeypatch, runs, curves):
    path, drawn = tmp_path / "shared.jsonl", []
    for number in range(runs):
        with privacy.SharedLedger(path, f"{number:016x}", PEOPLE) as shared:
            for round_number in (1, 2):
                shared.record(round_number, EVENT)
    monkeypatch.setattr(
        ledger_plots, "save", lambda _, found, **__: drawn.extend(found)
    )
    ledger_tables.forget()
    assert call("show", path, f"--plot={tmp_path / 'x.png'}")[0] == 0
    assert len(drawn) == curves
    # Each goes on where the one before it ended.
    xs = [x for _, xs, _ in drawn for x in xs]
    assert (xs[0], xs[-1]) == (0, 2 * runs)
    assert xs == sorted(xs)
    assert len(xs) <= ledger_plots.POINTS + curves
    ends = {x: y for _, xs, ys in drawn for x, y in zip(xs, ys)}
    delta = privacy.default_delta(900)
    assert ends.pop(0) == 0
    assert all(
        epsilon == pytest.approx(privacy.composed_epsilon([(EVENT, rounds)], delta))
        for rounds, epsilon in ends.items()
    )


def test_show_several_own_ledgers_and_chosen_deltas(call, root):
    code, out, _ = call(
        "show", root / "first", root / "second" / "ledger.jsonl", "--delta=1e-4",
        "--delta=1e-7", "--accountant=rdp",
    )  # fmt: skip
    assert code == 0
    groups = [(event, rounds) for _, event, rounds in RUNS]
    for delta in (1e-4, 1e-7):
        epsilon = shown(privacy.composed_epsilon(groups, delta, "rdp"))
        assert re.search(rf"^{shown(delta)} +{re.escape(epsilon)}$", out, re.M)
    assert re.search(r"^first +gaussian z=20", out, re.M)


def test_show_an_empty_ledger(call, tmp_path):
    (tmp_path / "ledger.jsonl").touch()
    code, out, _ = call("show", tmp_path)
    assert code == 0
    assert re.search(r"^all +together +0 +0$", out, re.M)
    code, _, err = call("show", tmp_path, f"--plot={tmp_path / 'x.png'}")
    assert code == 2
    assert "--plot: the ledger has no rounds" in err


@pytest.mark.parametrize("name", ["x.jpeg", "x", "x.svg.gz"])
def test_a_plot_of_another_format_is_refused_at_once(call, tmp_path, name):
    path = tmp_path / name
    # Before the ledger is read: there is none.
    code, out, err = call("show", tmp_path / "missing.jsonl", f"--plot={path}")
    assert (code, out) == (2, "")
    assert err.startswith(f"privacy_ledger: --plot: {path} has ")
    assert err.endswith("a plot's name ends in .svg, .png, .pdf\n")
    assert not path.exists()


def test_plots_have_the_format_of_their_names(call, ledger, tmp_path):
    spent, plan = tmp_path / "spent.svg", tmp_path / "plan.PNG"
    assert call("show", ledger, f"--plot={spent}")[0] == 0
    code, out, _ = call(
        "plan", "--sampler=full", "--population=900", "--noise_multiplier=20",
        "--rounds=30", f"--ledger={ledger}", "--budget_epsilon=9", f"--plot={plan}",
    )  # fmt: skip
    assert code == 0
    assert out.endswith(f"plot: {plan}\n")
    assert b"<svg" in spent.read_bytes()
    assert plan.read_bytes().startswith(_PNG)
    code, _, err = call("show", ledger, f"--plot={tmp_path / 'no' / 'x.png'}")
    assert code == 2
    assert "cannot write" in err


def test_verify_a_whole_ledger(call, root, ledger):
    code, out, err = call("verify", ledger, root / "first", root / "second")
    assert (code, err) == (0, "")
    assert f"{ledger}: 65 lines, each follows the one before it; 2 runs share it" in out
    head = re.search(r"head: (65:[0-9a-f]{64})", out)[1]
    assert call("verify", ledger, f"--head={head}")[0] == 0
    # What cannot be found is said where nothing was given to find it with.
    assert "Two changes are found only with more input" in call("verify", ledger)[1]


def test_verify_names_the_damaged_line(call, ledger):
    lines = ledger.read_bytes().splitlines(keepends=True)
    for damaged, message in (
        (lines[:6] + lines[7:], "line 7: does not follow the line before it"),
        ([lines[0].replace(b"20.0", b"99.0"), *lines[1:]], "line 1: was edited"),
        ([*lines[:-1], lines[-1].replace(b"30.0", b"99.0")], "line 65: was edited"),
    ):
        ledger.write_bytes(b"".join(damaged))
        for command in ("verify", "show"):
            code, out, err = call(command, ledger)
            assert (code, out) == (1, "")
            assert err.startswith(f"privacy_ledger: {ledger}, {message}")
            assert err.count("\n") == 1


def test_verify_finds_a_lost_tail(call, root, ledger):
    head = re.search(r"head: (\S+)", call("verify", ledger)[1])[1]
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:60]))
    for command in ("verify", "show"):
        code, out, err = call(command, ledger)
        assert (code, out) == (1, "")
        assert err.endswith(f"(noted in {ledger}.head)\n")
    head_file.path_of(ledger).unlink()
    for command in ("verify", "show"):
        code, _, err = call(command, ledger)
        assert code == 0
        assert "the end of the ledger could not be checked" in err
        assert err.count("\n") == 1
    code, _, err = call("verify", ledger, f"--head={head}")
    assert code == 1
    assert "has 60 lines, but had 65" in err
    assert call("verify", ledger, root / "first")[0] == 0
    code, _, err = call("verify", ledger, root / "first", root / "second")
    assert code == 1
    assert "has 20 lines of the run in" in err
    assert "whose own ledger has 25; lines were lost" in err


def cut(path, lines):
    """Cuts off the end, and the head file with it."""
    kept = path.read_bytes().splitlines(keepends=True)[:lines]
    path.write_bytes(b"".join(kept))
    head_file.path_of(path).unlink(missing_ok=True)


def test_verify_finds_a_lost_tail_of_a_runs_own_ledger(call, root, ledger):
    """By the shared ledger, which is written first, by metrics.csv, which is written
    after, and by the checkpoints."""
    own = root / "first" / "ledger.jsonl"
    cut(own, 39)
    # A kill between the two leaves one round less in the run's own.
    assert call("verify", ledger, root / "first")[0] == 0
    cut(own, 38)
    code, _, err = call("verify", ledger, root / "first")
    assert code == 1
    found = f"has 38 lines after the first, but {ledger} has 40 of this run"
    assert f"{own}: {found}" in err
    # Where both lost as much, and where there is no shared one.
    cut(ledger, 38)
    assert call("verify", ledger, root / "first")[0] == 0
    code, out, _ = call("verify", root / "first")
    assert code == 0
    assert "Two changes are found only with more input" in out
    metrics = root / "first" / "metrics.csv"
    metrics.write_text("round,loss\n0,2.5\n37,1.0\n38,0.5\n")
    for arguments in ((own,), (root / "first",)):
        code, out, _ = call("verify", *arguments)
        assert code == 0
        assert f"{own}: agrees with metrics.csv\n" in out
        assert "Two changes are found" not in out
    metrics.write_text("round,loss\n38,0.5\n39,0.4\n")
    for arguments in ((own,), (root / "first",), (ledger, root / "first")):
        code, out, err = call("verify", *arguments)
        assert (code, out) == (1, "")
        assert f"{own} has 38 rounds, but {metrics} has 39" in err
        assert err.count("\n") == 1


def test_verify_finds_what_a_checkpoint_noted(call, root, ledger):
    own = root / "first" / "ledger.jsonl"
    store = CheckpointStore(root / "first" / "checkpoints")
    for rounds in (30, 40):
        at = {}
        for name, path in (("own", own), ("shared", ledger)):
            line = json.loads(path.read_bytes().splitlines()[rounds - 1])
            at[name] = {"lines": rounds, "hash": line["hash"]}
        store.save(Checkpoint(rounds, np.zeros(2), None, {"ledgers": at}))
    assert call("verify", ledger, root / "first")[0] == 0
    code, out, _ = call("verify", root / "first")
    assert code == 0
    assert f"{own}: agrees with the checkpoints\n" in out
    whole, last = own.read_bytes(), store.path(40)
    cut(own, 39)
    code, _, err = call("verify", root / "first")
    assert code == 1
    assert "had 40: its last lines were lost" in err
    assert err.endswith(f"(noted in {last})\n")
    # A damaged checkpoint says nothing; those before it do.
    last.write_bytes(last.read_bytes()[:-1])
    assert call("verify", root / "first")[0] == 0
    cut(own, 29)
    assert call("verify", root / "first")[0] == 1
    # All lines written anew, with hashes that fit.
    own.unlink()
    head_file.path_of(own).unlink(missing_ok=True)
    with privacy.Ledger(own) as rewritten:
        for number in range(1, 41):
            rewritten.record(number, OTHER)
    code, _, err = call("verify", root / "first")
    assert code == 1
    assert (
        "line 30: differs from the line that was there before; the file was rewritten"
        in err
    )
    own.write_bytes(whole)
    cut(ledger, 29)
    cut(own, 29)
    assert call("verify", ledger)[0] == 0
    code, _, err = call("verify", ledger, root / "first")
    assert code == 1
    assert "has 29 lines, but had 30" in err


def test_a_torn_last_line_is_no_damage(call, ledger):
    whole = ledger.read_bytes()
    ledger.write_bytes(whole + b'{"run":"')
    code, out, err = call("verify", ledger)
    assert code == 0
    assert "65 lines" in out
    assert "the last line is cut off and not counted" in err
    # Reading changes nothing.
    assert ledger.read_bytes() == whole + b'{"run":"'


def test_plan_on_top_of_what_was_spent(call, ledger):
    code, out, _ = call(
        "plan", "--sampler=full", "--population=900", "--noise_multiplier=25",
        "--rounds=30", f"--ledger={ledger}", "--budget_epsilon=4",
    )  # fmt: skip
    assert code == 0
    delta = privacy.default_delta(900)
    planned = privacy.GaussianEvent("none", 25.0, 1.0, 900, 900.0, "add_or_remove_one")
    spent = [(event, rounds) for _, event, rounds in RUNS]

    def epsilon(rounds):
        return privacy.composed_epsilon([*spent, (planned, rounds)], delta)

    for name, value in (
        ("spent before", epsilon(0)),
        ("planned", privacy.composed_epsilon([(planned, 30)], delta)),
        ("together", epsilon(30)),
    ):
        assert re.search(rf"^{name} .* {re.escape(shown(value))}$", out, re.M)
    left = int(re.search(r"budget ε = 4: (\d+) rounds are left", out)[1])
    assert epsilon(left) <= 4 < epsilon(left + 1)


def test_plan_finds_the_noise(call):
    code, out, _ = call(
        "plan", "--cohort_size=30", "--population=900", "--target_epsilon=6",
        "--rounds=100",
    )  # fmt: skip
    assert code == 0
    noise = float(re.search(r"noise multiplier z = (\S+): the least", out)[1])
    expected = privacy.calibrate_noise_multiplier(
        target_epsilon=6, sampling_rate=30 / 900, rounds=100,
        delta=privacy.default_delta(900),
    )  # fmt: skip
    assert noise == expected
    assert "each of 900 clients joins a round independently" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sampling_rate=0.01", "--delta=1e-6"], "probability 0.01"),
        (["--sampler=fixed", "--cohort_size=30", "--population=900"], "replace_one"),
        (
            ["--mechanism=tree", "--sampler=min_separation", "--cohort_size=30",
             "--population=900", "--restart_every=8"],
            "binary tree over 8 rounds",
        ),
        (
            ["--mechanism=banded_matrix", "--sampler=min_separation",
             "--cohort_size=30", "--population=900", "--bands=2"],
            "correlated over 2 rounds",
        ),
        (
            ["--mechanism=local_gaussian", "--cohort_size=30", "--population=900"],
            "local differential privacy",
        ),
        (
            ["--cohort_size=30", "--population=900", "--search_mean=5"],
            "Papernot and Steinke 2022",
        ),
    ],
)  # fmt: skip
def test_plan_of_other_mechanisms_and_samplers(call, arguments, words):
    code, out, err = call("plan", "--noise_multiplier=20", "--rounds=16", *arguments)
    assert (code, err) == (0, "")
    assert words in out


def test_plan_rounds_like_those_of_a_ledger(call, root):
    code, out, _ = call("plan", f"--event_of={root / 'second'}", "--rounds=10")
    assert code == 0
    epsilon = privacy.composed_epsilon([(OTHER, 10)], privacy.default_delta(900))
    assert re.search(
        rf"^planned +gaussian z=30.* {re.escape(shown(epsilon))}$", out, re.M
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "plan --rounds=1",
            "give exactly one of --noise_multiplier and --target_epsilon",
        ),
        (
            "plan --rounds=1 --noise_multiplier=1 --target_epsilon=1",
            "give exactly one of --noise_multiplier and --target_epsilon",
        ),
        ("plan --noise_multiplier=1", "give --rounds, or --budget_epsilon"),
        ("plan --noise_multiplier=1 --rounds=0", "--rounds must be at least 1"),
        ("plan --target_epsilon=1 --budget_epsilon=2", "needs --rounds too"),
        ("plan --noise_multiplier=1 --rounds=1", "--population is missing"),
        (
            "plan --noise_multiplier=1 --rounds=1 --population=9",
            "--cohort_size is missing",
        ),
        (
            "plan --noise_multiplier=1 --rounds=1 --population=9 --cohort_size=10",
            "cohort_size must be above 0 and at most the population of 9",
        ),
        (
            "plan --noise_multiplier=-1 --rounds=1 --sampling_rate=0.1 --delta=1e-5",
            "noise_multiplier must be at least 0",
        ),
        (
            "plan --noise_multiplier=1 --rounds=1 --sampling_rate=0.1",
            "--delta is missing",
        ),
        (
            "plan --noise_multiplier=1 --rounds=1 --sampling_rate=0.1 --population=9",
            "--sampling_rate=0.1: stands for --cohort_size and --population",
        ),
        (
            "plan --noise_multiplier=1 --rounds=1 --population=9 --cohort_size=3 "
            "--bands=2",
            "--bands=2: goes with --mechanism=banded_matrix, not with gaussian",
        ),
        (
            "plan --noise_multiplier=1 --rounds=1 --population=9 --cohort_size=3 "
            "--mechanism=tree",
            "its account does not cover --sampler=poisson; give --sampler=min_sep",
        ),
        ("plan --noise_multiplier=x --rounds=1", "invalid float value"),
        ("show /nowhere/ledger.jsonl", "/nowhere/ledger.jsonl: no such ledger"),
        ("show {ledger} --delta=1.5", "delta must be above 0"),
        ("verify {ledger} --head=7", "expected LINES:HASH"),
        ("verify {ledger} {root}", "no such ledger; give a ledger file or the folder"),
        ("verify {root}/first {root}/second", "is one run's own ledger"),
        ("forget {ledger}", "invalid choice: 'forget'"),
    ],
)
def test_mistyped_commands_end_with_one_line_and_code_2(call, root, arguments, message):
    filled = arguments.format(ledger=root / "shared.jsonl", root=root).split()
    code, out, err = call(*filled)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    if "usage" not in err:
        assert err.count("\n") == 1


def test_ledgers_of_different_populations_are_not_shown_together(call, root, ledger):
    other = root / "other.jsonl"
    people = privacy.Population.of(["a", "b"])
    with privacy.SharedLedger(other, "0" * 16, people) as shared:
        shared.record(1, EVENT)
    code, _, err = call("show", ledger, other)
    assert code == 2
    assert "about different populations" in err


def test_needs_no_tensorflow(root, ledger, tmp_path):
    code = (
        "import sys\n"
        "from tfl_research.cli.privacy_ledger import main\n"
        "ledger, folder, png = sys.argv[1:]\n"
        "assert main(['verify', ledger, folder]) == 0\n"
        "assert 'dp_accounting' not in sys.modules\n"
        "assert main(['show', ledger, '--plot', png]) == 0\n"
        "assert main(['plan', '--noise_multiplier=9', '--rounds=5', '--sampler=full',\n"
        "    '--population=900', '--budget_epsilon=9', '--ledger', ledger]) == 0\n"
        "for name in ('tensorflow', 'pandas', 'dp_accounting'):\n"
        "    assert name not in sys.modules, name\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, ledger, root / "first", tmp_path / "x.png"],
        check=True,
        capture_output=True,
        timeout=120,
    )


def test_the_script_passes_its_arguments_on(machine):
    machine.add_python("python3.11", 11)
    found = machine.run("scripts/privacy_ledger", "show", "a b.jsonl")
    assert found.returncode == 0
    expected = "ran <-m> <tfl_research.cli.privacy_ledger> <show> <a b.jsonl>"
    assert found.stdout.splitlines()[-1] == expected
