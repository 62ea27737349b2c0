"""scripts/bench without a measurement: flags, arithmetic, models, clients."""

from __future__ import annotations

import pathlib
import sys
import types

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmark import (  # noqa: E402
    endurance,
    flags as command_line,
    images,
    large,
    report,
    secure_sums,
    workloads,
)
from benchmark.images import IMAGES  # noqa: E402


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
