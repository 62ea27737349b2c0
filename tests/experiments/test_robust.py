"""Robust rules from the command line: rules, breakdowns, attacks, roots and privacy."""

from __future__ import annotations

import csv
import json

import pytest

from tfl_research import privacy

HEART = (
    "--task=heart",
    "--client_execution=folded_graph",
    "--notensorboard",
    "--evaluate_every=1",
)


def table(folder):
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def hparams(folder):
    return json.loads((folder / "hparams.json").read_text())["hparams"]


def numbers(rows, column):
    return [float(row[column]) for row in rows]


def test_a_rule_after_mixing_under_attack(train, tmp_path):
    rows = train(
        "robust_fed_avg",
        tmp_path / "run",
        "--aggregator=trimmed_mean",
        "--byzantine=1",
        "--neighbour_mixing",
        "--attack=sign_flip",
        "--malicious_fraction=0.25",
    )
    assert numbers(rows, "aggregator_stacked") == [4, 4]
    assert numbers(rows, "aggregator_breakdowns") == [0, 0]
    assert float(rows[-1]["eval_accuracy"]) > 0.6
    assert len(hparams(tmp_path / "run")["malicious_clients"]) == 1


@pytest.mark.parametrize(
    ("policy", "column", "words"),
    [
        ("skip", "aggregator_skipped", "the round is skipped"),
        ("mean", "aggregator_fell_back", "the rule of --on_breakdown takes its place"),
    ],
)
def test_breakdowns_are_counted_and_said(execute, tmp_path, policy, column, words):
    folder = tmp_path / "run"
    flags = ["--aggregator=krum", "--byzantine=0", f"--on_breakdown={policy}"]
    cohorts = ["--sampler=poisson", "--cohort_size=2.5", "--rounds=4", "--seed=3"]
    code, output, errors = execute(
        "robust_fed_avg", [*HEART, *flags, *cohorts, f"--output_dir={folder}"]
    )
    assert code == 0, errors
    rows = table(folder)
    # Krum without hostile clients needs three.
    small = [int(row["cohort_size"]) < 3 for row in rows]
    assert 0 < sum(small) < len(rows)
    assert [value == 1 for value in numbers(rows, column)] == small
    counted = [sum(small[: end + 1]) for end in range(len(small))]
    assert numbers(rows, "aggregator_breakdowns") == counted
    warnings = [line for line in output.splitlines() if line.startswith("warning:")]
    assert len(warnings) == sum(small)
    for row, line in zip((r for r, few in zip(rows, small) if few), warnings):
        start = f"warning: round {row['round']}: the aggregation rule cannot keep"
        assert line.startswith(start)
        assert f"(cohort {row['cohort_size']}): {words}" in line
    losses = numbers(rows, "eval_loss")
    for earlier, later, few in zip(losses, losses[1:], small[1:]):
        assert (earlier == later) == (few and policy == "skip")


def test_a_trusted_root_is_no_client(train, tmp_path):
    rows = train(
        "robust_fed_avg",
        tmp_path / "run",
        "--aggregator=trusted_root",
        "--root_examples=40",
        "--attack=inner_product",
        "--malicious_fraction=0.25",
        "--evaluate_every=1",
    )
    assert [row["cohort_size"] for row in rows] == ["4", "4"]
    assert numbers(rows, "aggregator_stacked") == [4, 4]
    assert numbers(rows, "aggregator_skipped") == [0, 0]
    # The attacker's update points the other way.
    assert max(numbers(rows, "aggregator_trusted")) <= 3
    losses = numbers(rows, "eval_loss")
    assert losses[1] < losses[0]
    assert hparams(tmp_path / "run")["num_train_clients"] == 4


def test_the_geometric_median_of_secure_sums(train, tmp_path):
    given = (
        "--aggregator=repeated_geometric_median",
        "--rounds=3",
        "--runtime=in_process",
        "--client_execution=folded_graph",
    )
    evaluated = "--evaluate_every=1"
    plain = train("robust_fed_avg", tmp_path / "plain", *given, evaluated)
    secure = train(
        "robust_fed_avg", tmp_path / "secure", *given, evaluated, "--secure_sums"
    )
    assert numbers(secure, "aggregator_excluded") == [0, 0, 0]
    for column in ("eval_loss", "aggregator_step_norm"):
        close = pytest.approx(numbers(plain, column), rel=1e-4)
        assert numbers(secure, column) == close
    losses = numbers(secure, "eval_loss")
    assert losses == sorted(losses, reverse=True)


@pytest.fixture
def private(train, tmp_path):
    """Two rounds of a mechanism: (name, flags) -> (folder, rows)."""

    def run(name, *flags):
        folder = tmp_path / name
        common = ("--run_seed=11", "--noise_multiplier=0.3", "--sampler=full")
        return folder, train("dp_fed_avg", folder, *common, *flags)

    return run


def test_any_rule_follows_noise_of_the_clients(private):
    folder, rows = private(
        "run",
        "--mechanism=local_gaussian",
        "--aggregator=trimmed_mean",
        "--byzantine=1",
    )
    assert numbers(rows, "aggregator_stacked") == [4, 4]
    # A rule costs no privacy.
    plan = json.loads((folder / "hparams.json").read_text())["privacy_plan"]
    event = privacy.LocalGaussianEvent(0.3, 4, 4)
    curve = privacy.EpsilonCurve(event, plan["delta"], plan["accountant"])
    expected = [curve.at(1), curve.at(2)]
    assert numbers(rows, "epsilon") == pytest.approx(expected, rel=1e-6)
    said = " ".join((folder / "privacy.txt").read_text("utf-8").split())
    assert "aggregates the noised updates by trimmed_mean" in said
    assert "divided by the expected cohort size" not in said


@pytest.mark.slow
def test_clipping_comes_before_noise_at_the_server(private):
    clip = "--l2_norm_clip=0.5"
    folder, rows = private(
        "run", clip, "--aggregator=norm_clipping", "--clip_radius=0.05"
    )
    _, plain = private("plain", clip)
    assert [r["epsilon"] for r in rows] == [r["epsilon"] for r in plain]
    assert rows[-1]["eval_loss"] != plain[-1]["eval_loss"]
    said = " ".join((folder / "privacy.txt").read_text("utf-8").split())
    assert "l2 norm clip 0.5, after clipping to 0.05" in said


DP = ("dp_fed_avg", "--noise_multiplier=1")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            ("robust_fed_avg", "--aggregator=krum", "--byzantine=1"),
            ["--aggregator=krum", "at least 5 clients", "at most 4", "--byzantine"],
        ),
        (
            (
                "robust_fed_avg",
                "--aggregator=krum",
                "--byzantine=0",
                "--sampler=poisson",
                "--cohort_size=3",
            ),
            ["--aggregator=krum", "as few as 0", "--on_breakdown"],
        ),
        (
            ("robust_fed_avg", "--aggregator=krum", "--byzantine=1", "--secure_sums"),
            [
                "--secure_sums",
                "--aggregator=krum",
                "only the sum of the updates",
                "mean",
            ],
        ),
        (
            (
                "fed_avg",
                "--aggregator=repeated_geometric_median",
                "--weiszfeld_steps=2",
            ),
            ["--weiszfeld_steps=2", "--runtime=tff"],
        ),
        (
            ("robust_fed_avg", "--aggregator=sign_majority"),
            ["--aggregator=sign_majority", "--server_learning_rate"],
        ),
        (
            ("robust_fed_avg", "--aggregator=trusted_root"),
            ["--aggregator=trusted_root", "--root_examples"],
        ),
        (
            (
                "robust_fed_avg",
                "--aggregator=trusted_root",
                "--root_examples=100000",
            ),
            ["--root_examples=100000", "fewer examples"],
        ),
        (
            (
                "robust_fed_avg",
                "--aggregator=trusted_root",
                "--root_examples=9",
                "--client_weighting=examples",
            ),
            ["--client_weighting=examples", "--client_weighting=uniform"],
        ),
        (
            (
                *DP,
                "--mechanism=local_gaussian",
                "--sampler=full",
                "--aggregator=trusted_root",
                "--root_examples=9",
            ),
            ["--aggregator=trusted_root", "the guarantee does not cover them"],
        ),
        (
            (
                "record_dp_fed_avg",
                "--record_noise_multiplier=1",
                "--aggregator=trusted_root",
                "--root_examples=9",
            ),
            ["--aggregator=trusted_root", "the guarantee does not cover them"],
        ),
        (
            (
                "federated",
                "--algorithm=ditto",
                "--aggregator=trusted_root",
                "--root_examples=9",
            ),
            ["--aggregator=trusted_root", "clients of ditto send or keep more"],
        ),
        (
            (
                "federated",
                "--compression=top_k",
                "--aggregator=trusted_root",
                "--root_examples=9",
            ),
            ["--compression=top_k", "the server's own examples"],
        ),
        (
            (
                "fed_avg",
                "--devices=9",
                "--aggregator=trusted_root",
                "--root_examples=9",
            ),
            ["--aggregator=trusted_root", "leave --devices out"],
        ),
        (
            (
                "federated",
                "--silo_drop_out=0.1",
                "--aggregator=trusted_root",
                "--root_examples=9",
            ),
            ["--aggregator=trusted_root", "leave --silo_drop_out"],
        ),
        (
            (*DP, "--sampler=full", "--aggregator=coordinate_median"),
            ["coordinate_median breaks the guarantee of gaussian", "local_gaussian"],
        ),
        (
            (*DP, "--sampler=full", "--aggregator=robust"),
            ["robust breaks the guarantee of gaussian", "exact norms"],
        ),
        (
            (
                *DP,
                "--mechanism=tree",
                "--sampler=full",
                "--aggregator=krum",
                "--byzantine=0",
            ),
            ["krum breaks the guarantee of tree", "2C"],
        ),
        (
            (
                *DP,
                "--mechanism=skellam",
                "--sampler=full",
                "--aggregator=geometric_median",
            ),
            [
                "geometric_median needs every client's update",
                "only the sum of the updates",
            ],
        ),
        (
            (
                *DP,
                "--aggregator=norm_clipping",
                "--clip_radius=1",
                "--bucket_size=2",
            ),
            ["bucketing breaks the guarantee of gaussian"],
        ),
        (
            (
                *DP,
                "--aggregator=norm_clipping",
                "--clip_radius=1",
                "--on_breakdown=skip",
            ),
            ["gaussian adds noise to a sum", "--on_breakdown"],
        ),
        (
            (
                *DP,
                "--mechanism=local_gaussian",
                "--sampler=full",
                "--client_weighting=capped",
                "--weight_cap=100",
                "--aggregator=coordinate_median",
            ),
            ["--client_weighting=capped", "--client_weighting=uniform"],
        ),
        (
            (
                *DP,
                "--mechanism=local_gaussian",
                "--sampler=full",
                "--aggregator=krum",
                "--byzantine=1",
            ),
            ["--aggregator=krum", "at least 5 clients"],
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(execute, tmp_path, command, words):
    folder = tmp_path / "run"
    code, output, errors = execute(
        command[0], ["--task=heart", *command[1:], f"--output_dir={folder}"]
    )
    assert code == 2
    assert output == ""
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    for word in words:
        assert word in errors
    assert not folder.exists()
