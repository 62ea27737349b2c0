"""scripts/bench without a measurement: flags, protocol, arithmetic, what ends."""

from __future__ import annotations

import io
import json
import os
import pathlib
import sys
import types

import numpy as np
import process_tree
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmark import (  # noqa: E402
    __main__ as bench,
    endurance,
    flags as command_line,
    images,
    large,
    protocol,
    report,
    secure_sums,
    turns,
    workloads,
)
from benchmark.contender import Contender, ContenderFailed, last_error  # noqa: E402
from benchmark.images import IMAGES  # noqa: E402
from benchmark.peers import environments  # noqa: E402

from tfl_research.errors import UserError  # noqa: E402

# A contender without TensorFlow. It leaves a process in a session of its own.
_FAKE = """
import subprocess, sys
from benchmark import protocol

answers = protocol.take_stdout()
kind = sys.argv[1]
if kind == "refuses":
    raise ValueError("no such wheel")
class Weights(list):
    pass
class Array:
    def __init__(self, value): self.value = value
    def copy(self): return Array(self.value)
    def __sub__(self, other): return Array(self.value - other.value)
    def __pow__(self, power): return Array(self.value ** power)
    def sum(self): return self.value
model = Array(0.0)
child = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
)
print(child.pid, flush=True)
for number in protocol.rounds(answers, weights=lambda: [model]):
    if kind != "still":
        model.value += 3.0
    if kind == "dies" and number == 4:
        raise ValueError("dropped out")
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Commands of made-up contenders."""
    script = tmp_path / "fake.py"
    script.write_text(_FAKE)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "scripts"))
    return lambda kind: [sys.executable, str(script), kind]


def _running(log):
    """Whether the process whose id a fake contender logged is still there."""
    return process_tree.is_alive(int(log.read_text().split()[0]))


def test_contenders_take_turns_and_leave_nothing(fake, tmp_path, capsys):
    kinds = ("works", "refuses", "dies", "still")
    running, absent = turns.measure("W1", {k: fake(k) for k in kinds}, 2, tmp_path)
    assert list(running) == ["works"]
    contender = running["works"]
    # Up to 20 rounds a turn, of which these take no time.
    assert len(contender.rounds) == 2 * 20
    assert contender.update_norm == 3.0
    # One number for each turn.
    assert len(contender.all_cpu) == 2
    # Python and its child, of some MB each.
    assert contender.peak_bytes > 10e6
    assert absent == {
        "refuses": "ValueError: no such wheel",
        "dies": "ValueError: dropped out",
        "still": "its first round moved the model by 0.0",
    }
    for kind in ("works", "dies", "still"):
        assert not _running(tmp_path / f"W1_{kind}.log"), kind
    assert "W1: no dies: ValueError: dropped out" in capsys.readouterr().err


def test_an_interrupted_measurement_leaves_nothing(fake, tmp_path, monkeypatch):
    def interrupt(self, rounds, *, keep):
        raise KeyboardInterrupt

    monkeypatch.setattr(Contender, "take", interrupt)
    with pytest.raises(KeyboardInterrupt):
        turns.measure("W1", {"works": fake("works")}, 1, tmp_path)
    assert not _running(tmp_path / "W1_works.log")


@pytest.mark.parametrize(
    ("ending", "code"), [(SystemExit(143), 143), (ContenderFailed("gone"), None)]
)
def test_what_is_finished_is_printed_when_the_rest_is_not(
    tmp_path, monkeypatch, capsys, ending, code
):
    def measure(workload, chosen, count, folder):
        if workload == "W2":
            raise SystemExit(143)
        return {}, {}

    def memory(folder):
        raise ending

    output = tmp_path / "b.json"
    monkeypatch.setattr(turns, "commands", lambda *_: ({}, {}))
    monkeypatch.setattr(turns, "measure", measure)
    result = {"in_process_seconds": 0.5, "in_process_rounds": 3}
    monkeypatch.setattr(report, "summary", lambda *_: result)
    monkeypatch.setattr(endurance, "memory", memory)
    workloads = "W1,W2" if code else "W1"
    arguments = [f"--workloads={workloads}", "--memory", f"--output={output}"]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        bench.main()
    assert stopped.value.code == (code or "scripts/bench: gone")
    printed = capsys.readouterr().out
    assert "| workload | in_process |\n|---|---|\n| W1 | 0.5000 |\n" in printed
    assert "W2" not in printed
    written = json.loads(output.read_text())
    assert list(written.pop("measured_by")) == ["W1"]
    assert written == {"W1": result}
    assert output.with_suffix(".svg").is_file()


def test_a_long_round_counts_alone(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "_ONE_ROUND_SECONDS", 0.0)
    running, _ = turns.measure("W9", {"works": fake("works")}, 5, tmp_path)
    assert len(running["works"].rounds) == len(running["works"].all_cpu) == 1


def test_long_rounds_have_fewer_turns(fake, tmp_path, monkeypatch):
    seconds = {"works": 6.0, "still quick": 2.0}
    asked = []

    def take(self, rounds, *, keep):
        name = self._log.stem.partition("_")[2]
        asked.append((name, rounds, keep))
        return seconds[name]

    monkeypatch.setattr(Contender, "take", take)
    turns.measure("W9", {name: fake("works") for name in seconds}, 4, tmp_path)
    assert asked == [
        # A round of five seconds is not repeated before it counts.
        *[("works", 1, False), ("still quick", 1, False), ("still quick", 2, False)],
        # Its two turns are spread over the four.
        ("still quick", 1, True),
        *[("works", 1, True), ("still quick", 1, True)],
        ("still quick", 1, True),
        *[("works", 1, True), ("still quick", 1, True)],
    ]


@pytest.mark.parametrize("most", [1, 2, 3, 7, 9])
def test_turns_are_spread(most):
    due = [turn for turn in range(7) if turns.is_due(turn, most, 7)]
    assert len(due) == min(most, 7)
    gaps = np.diff([*due, due[0] + 7])
    assert max(gaps) - min(gaps) <= 1


def test_trials_are_no_answers(tmp_path):
    lines = [{"start_seconds": 1.0}, *[{"trial_seconds": 9.0}] * 3]
    answer = {"seconds": [2.0], "cpu_seconds": [1.0], "all_cpu_seconds": 1.0}
    lines.append({**answer, "peak_bytes": 1, "resident_bytes": 1})
    # All lines at once: what is read is more than a line.
    program = f"import json; print(*map(json.dumps, {lines}), sep='\\n', flush=True); "
    command = [sys.executable, "-c", f"{program}input(); input()"]
    contender = Contender(command, tmp_path / "log")
    assert contender.start_seconds == 1.0
    assert contender.take(1, keep=True) == 2.0
    contender.close()


def test_a_silent_contender_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.contender._PATIENCE_SECONDS", 0.2)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(ContenderFailed, match="no answer within 0 s"):
        Contender(command, tmp_path / "log")


class _Clock:
    """Time that passes only when told."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    time = perf_counter

    def process_time(self):
        return self.now / 2


def test_rounds_keep_the_fastest_setting(monkeypatch):
    clock = _Clock()
    monkeypatch.setattr(protocol, "time", clock)
    monkeypatch.setattr(protocol, "STARTED", 0.0)
    monkeypatch.setattr(sys, "stdin", io.StringIO("2\n1\n\n"))
    answers = io.StringIO()
    cost = {"slow": 3.0, "fast": 2.0}
    current = []
    ran = []
    settings = [lambda: current.append("slow"), lambda: current.append("fast")]
    for number in protocol.rounds(answers, settings):
        ran.append((number, current[-1]))
        clock.now += cost[current[-1]]
    # The first, three tries of each, and the three that were asked for.
    names = ["slow"] * 4 + ["fast"] * 6
    assert ran == list(enumerate(names))
    start, *rest = (json.loads(line) for line in answers.getvalue().splitlines())
    assert start == {"start_seconds": 3.0}
    trials, rest = rest[:6], rest[6:]
    assert trials == [{"trial_seconds": s} for s in [3.0] * 3 + [2.0] * 3]
    assert [answer["seconds"] for answer in rest] == [[2.0, 2.0], [2.0]]
    assert [answer["cpu_seconds"] for answer in rest] == [[1.0, 1.0], [1.0]]
    assert rest[0]["peak_bytes"] >= rest[0]["resident_bytes"] > 0


@pytest.mark.parametrize(
    ("seconds", "tries"),
    [
        ([9.0, 1.0, 2.0, 0.0], 3),  # the first one compiled
        ([9.0, 8.0, 0.0], 2),
        ([31.0, 0.0], 1),
        ([1.0, 1.0, 1.0, 0.0], 3),
    ],
)
def test_settings_with_long_rounds_are_tried_less(monkeypatch, seconds, tries):
    clock = _Clock()
    monkeypatch.setattr(protocol, "time", clock)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    ran = []
    settings = [lambda: ran.append("start"), lambda: ran.append("other")]
    for number in protocol.rounds(io.StringIO(), settings):
        ran.append(number)
        if "other" not in ran:
            continue
        since = len(ran) - 1 - ran.index("other")
        clock.now += seconds[since - 1]
    of_other = ran[ran.index("other") + 1 :]
    assert len([r for r in of_other if isinstance(r, int)]) == tries


def test_rounds_end_without_an_empty_line(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert list(protocol.rounds(io.StringIO())) == [0]


def _made_up(seconds, norm=None):
    return types.SimpleNamespace(
        rounds=seconds,
        all_cpu=[2 * max(seconds), min(seconds), max(seconds)],
        start_seconds=9.0,
        peak_bytes=7,
        update_norm=norm,
    )


def test_summary_gives_medians_and_ratios():
    running = {
        "plain_tff": _made_up([0.5, 0.1, 0.3]),
        "in_process": _made_up([0.02, 0.04]),
        "limit": _made_up([0.015]),
        "flower": _made_up([0.6], norm=0.25),
    }
    result = report.summary(running, {"pfl": "no wheel"})
    assert result["plain_tff_seconds"] == 0.3
    assert result["plain_tff_seconds_range"] == [0.1, 0.5]
    assert result["plain_tff_rounds"] == 3
    assert result["plain_tff_cpu_seconds"] == 0.5
    assert result["in_process_seconds"] == pytest.approx(0.03)
    assert result["speedup"] == pytest.approx(10.0)
    assert result["over_limit"] == pytest.approx(2.0)
    assert result["speedup_over_flower"] == pytest.approx(20.0)
    assert result["flower_update_norm"] == 0.25
    assert result["flower_start_seconds"] == 9.0
    assert result["flower_peak_bytes"] == 7
    assert result["absent"] == {"pfl": "no wheel"}
    assert "plain_tff_update_norm" not in result


def test_summary_without_the_in_process_runtime_has_no_ratios():
    result = report.summary({"plain_tff": _made_up([1.0])}, {})
    assert "speedup" not in result
    assert "absent" not in result


def test_a_contender_with_another_update_has_no_ratio():
    running = {
        "in_process": _made_up([0.5], norm=2.0),
        "plain_tff": _made_up([1.0], norm=2.05),
        "pfl": _made_up([2.0], norm=1.8),
        "fedjax": _made_up([3.0]),
    }
    result = report.summary(running, {})
    assert result["other_update"] == ["pfl"]
    assert result["speedup"] == pytest.approx(2.0)
    assert result["speedup_over_fedjax"] == pytest.approx(6.0)
    assert "speedup_over_pfl" not in result
    assert "| 2.0000 (other update) |" in report.table({"W1": result})
    assert "other_update" not in report.summary(running, {}, norm_tolerance=0.11)
    assert IMAGES["W3"].norm_tolerance == 0.2
    assert IMAGES["W1"].norm_tolerance == IMAGES["W9"].norm_tolerance == 0.05


def test_the_roofline_is_the_time_of_as_many_products():
    # Four products of 2048 x 2048 matrices are 2 * 4 * 2048^3 operations.
    one = 2.0 * 4 * 2048**3
    running = {
        "in_process": _made_up([1.0], norm=0.5),
        "roofline": _made_up([0.1, 0.2, 0.3]),
    }
    result = report.summary(running, {}, flops=3 * one)
    assert result["roofline_seconds"] == pytest.approx(0.6)
    assert result["of_roofline"] == pytest.approx(0.6)
    assert result["model_gflop"] == pytest.approx(3 * one / 1e9)
    assert result["matmul_gflop_per_second"] == pytest.approx(one / 0.2 / 1e9)
    first, rounds, cpu, peaks, norms = report.remarks({"W5": result})
    assert cpu == "W5, CPU seconds a round: in_process 1, roofline 0.9"
    assert rounds == "W5, rounds that count: in_process 1, roofline 3"
    assert first == (
        "W5: 206.2 GFLOP a round; matrix products run at 343.6 GFLOP/s, in_process at "
        "60% of that"
    )
    assert peaks == "W5, peak memory: in_process 7e-06 MB, roofline 7e-06 MB"
    assert norms == "W5, norm of the first update: in_process 0.5"


def test_the_share_of_a_models_own_products_is_reported():
    running = {"in_process": _made_up([2.0]), "products": _made_up([1.4, 1.5, 1.6])}
    result = report.summary(running, {}, flops=1e9)
    assert result["of_products"] == pytest.approx(0.75)
    assert "speedup_over_products" not in result
    assert "W5: the model's own products take 75% of in_process' round" in (
        report.remarks({"W5": result})
    )


def test_table_and_plot_show_every_contender(tmp_path):
    results = {
        "W1": {
            "plain_tff_seconds": 0.3,
            "plain_tff_start_seconds": 20.0,
            "in_process_seconds": 0.03,
            "flower_seconds": 0.6,
        },
        "heart": {"in_process_seconds": 0.002, "tff_runtime_seconds": 0.03},
    }
    assert report.table(results).splitlines() == [
        "| workload | plain_tff | in_process | flower | tff_runtime |",
        "|---|---|---|---|---|",
        "| W1 | 0.3000 (10.00) | 0.0300 | 0.6000 (20.00) |  |",
        "| heart |  | 0.0020 |  | 0.0300 (15.00) |",
    ]
    report.plot(results, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_secure_sums_are_measured_against_plain_sums():
    assert command_line.parse(["--workloads=", "--secure_sums"]).secure_sums
    row = secure_sums.measure(5, 100, lost=2)
    assert (row["parties"], row["integers"], row["lost"]) == (5, 100, 2)
    assert row["threshold"] == 3
    # Four bytes for an integer, and what belongs to a message and to the protocol:
    # two keys, four ciphertexts of 60 bytes, digests of 32 and shares of 16 for five.
    protocol_bytes = 2 * 32 + 4 * 60 + 5 * (32 + 16)
    assert 400 < row["plain_sent_bytes"] < 500
    assert 400 + protocol_bytes < row["sent_bytes"] < 400 + protocol_bytes + 1500
    # Two keys and a ciphertext of each other party, at least.
    assert row["received_bytes"] > 4 * (2 * 32 + 60)
    assert all(row[f"{name}_seconds"] > 0 for name in ("party", "server", "plain"))
    row.update(party_seconds=0.25, server_seconds=1.5, plain_seconds=0.0, integers=1000)
    row.update(sent_bytes=5000, plain_sent_bytes=4000, received_bytes=999)
    assert report.sums_table([row]).splitlines()[3] == (
        "| 5 | 1,000 | 2 | 5,000 | 4,000 | 999 | 0.2500 | 1.5000 | 0.0000 |"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--workloads=W99"],
            "--workloads: 'W99' is not one of W1, W2, W3, W4, W9, W5",
        ),
        (["--workloads=cohort_100"], "--workloads: 'cohort_100' is not one of"),
        (["--contenders=jax"], "--contenders: 'jax' is not one of plain_tff"),
        (
            ["--peers=flwr"],
            "--peers: 'flwr' is not one of flower, pfl, pfl_distributed",
        ),
        (["--peers", "--workloads=heart"], "--peers run only on W1, W2, W3, W4"),
        (["--turns=0"], "--turns must be at least 1, got 0"),
        (["--poisson_rounds=200"], "--poisson_rounds must be above 200"),
        (["--workloads="], "nothing to measure: --workloads is empty"),
        (["--output=/no/such/folder/x.json"], "there is no folder /no/such/folder"),
        (["--output=/usr"], "/usr is a folder; name a file"),
        (["--output=w1.svg"], "w1.svg is the name of the plot"),
        (["--contenders=in_process_gpu"], "in_process_gpu goes with --device=gpu"),
        (["--device=gpu", "--contenders=plain_tff"], "use no GPU; add in_process_gpu"),
        (["--device=gpu", "--workloads="], "use no GPU; add in_process_gpu and a"),
        (["--device=gpu", "--memory"], "--memory is measured on the CPU"),
        (["--device=gpu", "--scale_out"], "--scale_out is measured on the CPU"),
    ],
)
def test_bad_flags_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        command_line.parse(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_peers_without_a_list_are_all():
    everyone = [*environments.PEERS]
    assert command_line.parse(["--peers"]).peers == everyone
    assert command_line.parse(["--peers=pfl"]).peers == ["pfl"]
    assert command_line.parse([]).peers == []
    assert command_line.parse(["--workloads=", "--memory"]).workloads == []


def test_peers_run_on_random_images_alone(monkeypatch, tmp_path):
    def python_of(environment):
        if environment == "flower":
            raise environments.PeerUnavailable("no wheel")
        return tmp_path / environment

    monkeypatch.setattr(environments, "python_of", python_of)
    peers = ["flower", "pfl_distributed"]
    chosen, absent = turns.commands("W2", ["limit", "in_process"], peers)
    assert list(chosen) == ["limit", "in_process", "pfl_distributed"]
    assert chosen["pfl_distributed"] == [
        str(tmp_path / "pfl"),
        "-m",
        "benchmark.peers.pfl_worker",
        "W2",
        "distributed",
    ]
    assert absent == {"flower": "no wheel"}
    contenders = ["limit", "in_process", "roofline", "products", "plain_tff"]
    chosen, absent = turns.commands("heart", contenders, peers)
    assert (list(chosen), absent) == (["in_process", "plain_tff"], {})
    chosen, absent = turns.commands("W5", contenders, peers)
    expected = ["in_process", "roofline", "products", "plain_tff", "pfl_distributed"]
    assert (list(chosen), absent) == (expected, {})
    for other in ("W7", "W8"):
        chosen, _ = turns.commands(other, contenders, [])
        assert list(chosen) == ["in_process", "roofline", "plain_tff"]
    chosen, _ = turns.commands("W9", contenders, [*peers, "jax_vmapped"])
    assert list(chosen) == ["in_process", "jax_vmapped"]
    assert chosen["jax_vmapped"][1:] == [
        "-m",
        "benchmark.peers.jax_vmapped_worker",
        "W9",
    ]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Folders of environments that were made, none of them really."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = []
    monkeypatch.setattr(
        environments, "make", lambda folder, base, packages: folders.append(folder)
    )
    return folders


def test_an_environment_is_made_once(made, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "tfl_research" / "peers" / "pfl"
    for _ in range(2):
        assert environments.python_of("pfl") == folder / "bin" / "python"
    assert made == [folder]
    monkeypatch.setattr(environments, "_identity", lambda *_: "other\n")
    environments.python_of("pfl")
    assert made == [folder, folder]
    assert f"installing pfl in {folder}" in capsys.readouterr().err


def test_every_peer_has_an_environment():
    for peer in environments.PEERS.values():
        assert peer.environment in environments.ENVIRONMENTS
        assert environments.requirements_of(peer.environment).is_file()


def test_an_environment_has_a_python_that_its_packages_run_on(monkeypatch, made):
    asked = []

    def find_python(title, oldest, newest):
        asked.append((title, oldest, newest))
        raise UserError(f"{title} needs Python 3.11 to 3.12, found 3.9")

    monkeypatch.setattr(environments, "find_python", find_python)
    with pytest.raises(environments.PeerUnavailable, match="openfl needs Python"):
        environments.python_of("openfl")
    assert asked == [("openfl", (3, 11), (3, 12))]
    assert made == []


def test_pins_that_a_package_refuses_are_installed_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told = []
    monkeypatch.setattr(
        environments, "make", lambda folder, base, packages: told.append(packages)
    )
    for name, options in (("tff", ["--no-deps", "-r"]), ("pfl", ["-r"])):
        environments.python_of(name)
        assert told.pop() == [*options, str(environments.requirements_of(name))]


def test_an_environment_that_fails_is_not_complete(made, monkeypatch, tmp_path):
    def fails(folder, base, packages):
        script = "echo 'ERROR: no matching wheel'; echo bye; exit 1"
        environments._run(["/bin/sh", "-c", script], folder / "install.log")

    monkeypatch.setattr(environments, "make", fails)
    for _ in range(2):
        with pytest.raises(environments.PeerUnavailable, match="no matching wheel"):
            environments.python_of("fedjax")
    folder = tmp_path / "tfl_research" / "peers" / "fedjax"
    assert not (folder / ".complete").exists()


def test_every_peer_has_requirements_and_a_worker():
    folder = ROOT / "scripts" / "benchmark" / "peers"
    assert {"flower", "pfl", "fedjax"} <= set(environments.PEERS)
    for peer in environments.PEERS.values():
        lines = (folder / f"{peer.environment}.txt").read_text().splitlines()
        packages = [line for line in lines if not line.startswith("#")]
        assert packages
        # Every release is fixed.
        assert all(line.count("==") == 1 for line in packages), peer
        worker = (ROOT / "scripts" / f"{peer.module.replace('.', '/')}.py").read_text()
        assert "tfl_research" not in worker


def test_operations_of_the_larger_models():
    # A product of each step's input and state with the kernels; 80 logits at the end.
    lstm = 80 * ((8 + 256) + (256 + 256)) * 4 * 256 + 256 * 80
    assert large.LARGE["W5"].flops() == 2 * 3 * 10 * 100 * lstm
    word = 20 * ((96 + 670) * 4 * 670 + 670 * 96 + 96 * 10_004)
    assert large.LARGE["W6"].flops() == 2 * 3 * 10 * 64 * word
    # Four projections and two layers of four times the width; scores, and means.
    layer = 80 * 12 * 192**2 + 2 * 80 * 80 * 192
    assert large.LARGE["W8"].flops() == 6 * 1000 * (4 * layer + 80 * 192 * 500)
    # Kernels of 3x3 at full size, and two blocks of which the second halves the side.
    first = 64 * 9 * (3 * 4 + 4 * 4 * 4)
    second = 16 * (9 * (4 * 8 + 3 * 8 * 8) + 4 * 8) + 8 * 100
    assert large.SMALL["W7_small"].flops() == 6 * 2 * 4 * (first + second)


@pytest.mark.parametrize(
    ("name", "count"),
    # ResNet-18 for 100 classes, without biases of its convolutions.
    [("W6", 4_050_748), ("W7", 11_220_132), ("W8", 1_987_700)],
)
def test_weights_of_the_larger_models(name, count):
    spec = large.LARGE[name]
    drawn = spec.initial_weights()
    assert sum(w.size for w in drawn) == count
    assert [w.shape for w in drawn] == [w.shape for w in spec.weights()]


def test_the_forget_gate_starts_at_one():
    bias = large.SMALL["W5_small"].initial_weights()[3]
    np.testing.assert_array_equal(bias, [0] * 6 + [1] * 6 + [0] * 12)


@pytest.mark.parametrize("name", large.SMALL)
def test_keras_models_have_the_weights_in_their_order(name):
    spec = large.SMALL[name]
    # Keras' order, in which plain TFF is given the weights.
    model = workloads.get(name).task.build_model()
    found = [w.numpy().reshape(-1) for w in model.trainable_variables]
    expected = [w.reshape(-1) for w in spec.initial_weights()]
    assert len(found) == len(expected)
    for one, two in zip(found, expected):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("name", "count"), [("W1", 101_770), ("W3", 1_206_590)])
def test_initial_weights_are_those_of_the_models(name, count):
    layers = images.IMAGES[name].initial_weights()
    assert sum(kernel.size + bias.size for kernel, bias in layers) == count
    # Glorot uniform: variance 2 / (inputs + outputs).
    kernel = images.IMAGES["W1"].initial_weights()[0][0]
    assert kernel.var() == pytest.approx(2 / (784 + 128), rel=0.02)


def test_lazy_clients_are_pure_functions_of_their_ids():
    clients = workloads.lazy_clients(images.IMAGES["W1"], 3)
    first, second = clients.load("client1"), clients.load("client1")
    np.testing.assert_array_equal(first["x"], second["x"])
    assert first["x"].shape == (100, 784)
    assert (first["x"] != clients.load("client2")["x"]).any()
    assert clients.specs["x"].shape == (784,)


def test_rules_hold_the_whole_cohort():
    assert command_line.parse(["--workloads=", "--robust_rules"]).robust_rules
    for name, rule in workloads.RULES.items():
        workload = workloads.get(f"rule_{name}")
        assert workload.rule == rule
        assert len(workload.cohort) == 100
        assert len(workload.rounds_cohort(0)) == 100


def test_poisson_cohorts_vary():
    workload = workloads.get("poisson")
    sizes = {len(workload.rounds_cohort(number)) for number in range(20)}
    assert len(sizes) > 3
    with pytest.raises(ValueError, match="workload 'W99' is not one of W1, W2"):
        workloads.get("W99")


def test_compilations_count_modules_once(tmp_path):
    for name in ("module_0001.a.txt", "module_0001.b.txt", "module_0007.a.txt", "log"):
        (tmp_path / name).touch()
    assert endurance.compilations(tmp_path) == 2
    assert endurance.compilations(tmp_path / "none") == 0


def test_last_error_prefers_the_line_that_names_one():
    log = "x\nValueError: bad shape\n-----\nFor simplicity, frames were removed.\n"
    assert last_error(log) == "ValueError: bad shape"
    assert last_error("first\nlast\n\n") == "last"
    assert last_error("") == "it ended without a message"


def test_marks_are_read_from_the_environment():
    assert os.getpid() not in protocol.marked("never given")
