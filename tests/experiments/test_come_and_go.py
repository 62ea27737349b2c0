"""Runs whose devices and silos come and go: what state, noise and ε do.

On the real path: flags, ledger, compiled TFF process, checkpoints.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfl_research import devices, privacy, program, runtime, tasks
from tfl_research.data import PoissonBatching
from tfl_research.experiment.running import building, noise_keys
from tfl_research.privacy.ledger import spending
from tfl_research.privacy.ledger.checks import ledger_verify
from tfl_research.privacy.mechanisms.noise.noise_processes import IndependentNoise
from tfl_research.privacy.mechanisms.noised_sum import seed_tensor
from tfl_research.runtime import keyed
from tfl_research.runtime.in_process import InProcessEngine
from tfl_research.storage.computation_record import ComputationRecord

SEED, ROUNDS, COHORT = 12345, 9, 6
PUBLIC = seed_tensor(noise_keys.PUBLIC_SEED).numpy()
COMMON = (
    "--task=heart",
    f"--run_seed={SEED}",
    "--checkpoint_every=1",
    "--notensorboard",
    "--client_execution=folded_graph",
)
DEVICES = (
    "--noise_multiplier=1",
    "--devices=40",
    "--sampler=fixed",
    f"--cohort_size={COHORT}",
    "--minimum_cohort=4",
    "--drop_out=0.3",
    "--mean_availability=0.9",
    "--report_deadline=6",
)
# Eleven days for an example: nobody is in time, and everybody is on-line.
ALL_LATE = (*DEVICES, "--seconds_per_example=1e6")


def key_of(folder):
    """The key of the noise of a run with the run seed `SEED`."""
    record = ComputationRecord(folder / "computation.json", SEED, True)
    return record.attempts().key(SEED)


def rows_of(folder, name="metrics.csv"):
    with open(folder / name, encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "round_seconds"} for row in found]


def flat(state):
    return [np.asarray(value) for value in tf.nest.flatten(state)]


def assert_equal(one, other):
    for a, b in zip(flat(one), flat(other)):
        np.testing.assert_array_equal(a, b)


def weights_of(state):
    parts = flat(state.global_model_weights.trainable)
    return np.concatenate([part.ravel() for part in parts])


@pytest.fixture(scope="module")
def start(execute, lean_runs):
    """(experiment, folder, key, flags) -> what the run did.

    Runs of one key share the TFF process that they would each build.
    """
    patch = pytest.MonkeyPatch()
    seen: dict = {}
    build, go, following = building.process, program.run, InProcessEngine.next

    def kept_process(*args, **kwargs):
        seen["process"] = build(*args, **kwargs)
        return seen["process"]

    def kept_run(**kwargs):
        result = go(**kwargs)
        seen.update(sampler=kwargs["sampler"], task=kwargs["task"], state=result.state)
        return result

    def next_kept(engine, state, cohort):
        new, metrics = following(engine, state, cohort)
        seen["calls"].append((state, cohort.client_ids, new))
        return new, metrics

    def run(experiment, folder, key, *flags):
        seen.update(key=key, calls=[])
        code, output, errors = execute(
            experiment, [*COMMON, *flags, f"--output_dir={folder}"]
        )
        assert code == 0, errors
        calls = tuple(seen.pop("calls"))
        seen["calls"] = []
        if experiment == "dp_fed_avg":
            # As in checkpoints: without the secret key.
            key = seed_tensor(key_of(folder)).numpy()
            calls = tuple(
                (
                    keyed.replaced(old, key, PUBLIC),
                    names,
                    keyed.replaced(new, key, PUBLIC),
                )
                for old, names, new in calls
            )
        found = {**seen, "calls": calls, "folder": folder, "output": output}
        return types.SimpleNamespace(**found, rows=rows_of(folder))

    patch.setattr(building, "process", kept_process)
    patch.setattr(program, "run", kept_run)
    patch.setattr(InProcessEngine, "next", next_kept)
    lean_runs(patch, lambda: seen["key"])
    yield run
    patch.undo()


@pytest.fixture(scope="module")
def mixed(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed") / "run"
    return start("dp_fed_avg", folder, "gaussian", *DEVICES, f"--rounds={ROUNDS}")


def engine_of(run):
    """An engine that executes rounds as the run's did."""
    engine = runtime.in_process(run.process, mode=runtime.Mode("folded", "graph"))
    if run.process.plan is None:
        return engine
    return runtime.KeyedEngine(engine, PUBLIC, seed_tensor(key_of(run.folder)))


def verified(folder):
    """What `privacy_ledger verify` says of a run's folder."""
    return ledger_verify.report(spending.read_ledger(folder), [], None)


def cut_last_line(folder):
    path = folder / "ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    (folder / "ledger.jsonl.head").unlink()


def abandoned_in(run):
    return [row["abandoned"] == "1" for row in run.rows]


class TestDevices:
    """Under server noise: the central model, with a fixed clip."""

    def test_who_drops_out_or_is_late_is_as_good_as_not_selected(self, mixed):
        calls, lost = list(mixed.calls), 0
        with engine_of(mixed) as engine:
            state = engine.initialize()
            for number in range(1, ROUNDS + 1):
                selected, names = self.who(mixed, number)
                if mixed.rows[number - 1]["abandoned"] == "1":
                    continue
                lost += len(selected) - len(names)
                cohort = mixed.task.train.cohort(names, seed=0, round_number=number)
                state, _ = engine.next(state, cohort)
                assert_equal(state, calls.pop(0)[2])
                assert mixed.rows[number - 1]["cohort_size"] == str(len(names))
        assert calls == []
        assert_equal(state, mixed.state)
        assert sum(int(row["dropped_out"]) for row in mixed.rows) > 0
        assert sum(int(row["late"]) for row in mixed.rows) > 0
        assert lost > 0

    def who(self, run, number):
        """(selected devices, those of them that report in time), from what they are."""
        rounds = run.sampler
        quick = devices.Speeds(1e-12, 1e12, 1e12, 0.0, 0.0)
        patient = dataclasses.replace(
            rounds,
            devices=dataclasses.replace(rounds.devices, speeds=quick),
            minimum_cohort=1,
        )
        selected = dataclasses.replace(patient, drop_out=0.0).sample(number)
        in_time = []
        for name in patient.sample(number):
            device = rounds.devices.device(rounds.client_ids.number(name))
            examples = run.task.train.num_examples(name)
            seconds = examples * device.seconds_per_example
            seconds += rounds.bytes_down / device.download_bytes_per_second
            seconds += rounds.bytes_up / device.upload_bytes_per_second
            if seconds <= 6:
                in_time.append(name)
        return selected, in_time

    def test_each_release_is_charged_in_full_and_no_abandoned_round(self, mixed):
        abandoned = abandoned_in(mixed)
        assert 0 < sum(abandoned) < ROUNDS - 2
        event = privacy.GaussianEvent(
            "none", 1.0, COHORT / 40, 40, float(COHORT), "zero_out"
        )
        releases = list(itertools.accumulate(not gone for gone in abandoned))
        with privacy.Ledger(mixed.folder / "ledger.jsonl") as ledger:
            assert set(ledger.events) == {event}
            assert len(ledger) == releases[-1]
        # All T releases are one Gaussian of noise 1/√T (and δ = 40^-1.1 is too large).
        for row, count in zip(mixed.rows, releases):
            delta = gaussian_delta(float(row["epsilon"]), np.sqrt(count))
            assert delta == pytest.approx(1e-3, rel=1e-4)
            assert row["delta"] == "0.001"

    def test_the_ledger_agrees_with_the_rounds_that_were_not_abandoned(
        self, mixed, tmp_path
    ):
        copy = shutil.copytree(mixed.folder, tmp_path / "run")
        assert "agrees with metrics.csv" in verified(copy)
        shutil.rmtree(copy / "checkpoints")
        cut_last_line(copy)
        done = ROUNDS - sum(abandoned_in(mixed))
        with pytest.raises(ValueError, match=f"has {done - 1} rounds, but .*{done}: "):
            verified(copy)

    def test_an_abandoned_round_keeps_every_bit_of_the_state(self, mixed):
        for (_, _, after), (before, _, _) in zip(mixed.calls, mixed.calls[1:]):
            assert_equal(after, before)
        assert_equal(mixed.calls[-1][2], mixed.state)
        assert len(mixed.calls) == ROUNDS - sum(abandoned_in(mixed))
        # A round of its number is in the noise' state, and none more.
        rounds_seen = [
            int(new.aggregator[0]["round_number"]) for _, _, new in mixed.calls
        ]
        assert rounds_seen == list(range(1, len(mixed.calls) + 1))

    def test_resumed_after_an_abandoned_round_it_is_the_same_run(
        self, mixed, start, tmp_path
    ):
        stops = [n for n, gone in enumerate(abandoned_in(mixed), start=1) if gone]
        for stop in (stops[0], stops[-1] - 1):
            folder = tmp_path / f"after_{stop}"
            start("dp_fed_avg", folder, "gaussian", *DEVICES, f"--rounds={stop}")
            # As if the process had been killed before the last checkpoint was there.
            sorted((folder / "checkpoints").glob("*.ckpt"))[-1].unlink()
            again = start(
                "dp_fed_avg", folder, "gaussian", *DEVICES, f"--rounds={ROUNDS}"
            )
            assert_equal(again.state, mixed.state)
            ledgers = [spending.read_ledger(f).runs[0] for f in (folder, mixed.folder)]
            assert ledgers[0].entries == ledgers[1].entries
            for ours, theirs in zip(again.rows, mixed.rows):
                # The shorter run also evaluated its last round.
                own = {k: v for k, v in ours.items() if not k.startswith("eval_")}
                assert own == {k: theirs[k] for k in own}

    def test_a_round_in_which_all_are_late_releases_its_noise(self, start, tmp_path):
        run = start(
            "dp_fed_avg", tmp_path / "run", "gaussian", *ALL_LATE, f"--rounds={ROUNDS}"
        )
        abandoned = abandoned_in(run)
        assert 0 < sum(abandoned) < ROUNDS - 2
        assert {row["cohort_size"] for row in run.rows} == {"0"}
        seed = seed_tensor(key_of(run.folder))
        for number, (before, names, after) in enumerate(run.calls):
            assert names == ()
            # By hand: z S / cohort times the draw of the release, counted from 0.
            like = [tf.zeros_like(v) for v in before.global_model_weights.trainable]
            drawn, _ = IndependentNoise().next((), seed, tf.constant(number), like)
            expected = np.concatenate([d.numpy().ravel() for d in drawn]) / COHORT
            moved = weights_of(after) - weights_of(before)
            np.testing.assert_allclose(moved, expected, atol=1e-6)
            assert np.abs(expected).max() > 0.1
        with privacy.Ledger(run.folder / "ledger.jsonl") as ledger:
            assert len(ledger) == len(run.calls) == ROUNDS - sum(abandoned)

    def test_lateness_moves_neither_selection_nor_abandoning(
        self, mixed, start, tmp_path
    ):
        late = start(
            "dp_fed_avg", tmp_path / "run", "gaussian", *ALL_LATE, f"--rounds={ROUNDS}"
        )
        public = (
            "selected",
            "dropped_out",
            "abandoned",
            "simulated_seconds",
            "epsilon",
        )
        for ours, theirs in zip(mixed.rows, late.rows):
            assert [ours[c] for c in public] == [theirs[c] for c in public]
            assert ours["simulated_seconds"] == theirs["simulated_seconds"]
        assert mixed.rows[0]["late"] != late.rows[0]["late"]

    def test_what_is_exact_can_be_withheld(self, mixed, start, tmp_path):
        flags = (*DEVICES, "--rounds=2", "--withhold_exact")
        run = start("dp_fed_avg", tmp_path / "run", "gaussian", *flags)
        for row in run.rows:
            assert not {"cohort_size", "late", "bytes_up", "selected"} & row.keys()
            assert row["abandoned"] in ("0", "1")
        assert "late" not in run.output
        # The untrained model is not evaluated either.
        assert "untrained" not in run.output
        assert "cohort " not in run.output.split("round 1/2")[1]
        texts = [
            " ".join((r.folder / "privacy.txt").read_text(encoding="utf-8").split())
            for r in (mixed, run)
        ]
        exact = [text.split("Exact, not covered by ε: ")[1] for text in texts]
        assert "cohort_size, " in exact[0].split(". ")[0]
        assert exact[1].startswith("nothing. ")
        for text in texts:
            assert "40 devices hold those of 4 clients" in text
            assert "release nothing, and count neither as charged nor as done." in text


def gaussian_delta(epsilon, mu):
    """δ(ε) of a Gaussian of sensitivity mu (Balle and Wang 2018, Theorem 8)."""
    upper, lower = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
    return stats.norm.cdf(upper) - np.exp(epsilon) * stats.norm.cdf(lower)


def test_local_noise_is_charged_in_abandoned_rounds_too(start, tmp_path):
    flags = (*ALL_LATE, "--mechanism=local_gaussian", "--rounds=6")
    run = start("dp_fed_avg", tmp_path / "run", "local", *flags)
    abandoned = abandoned_in(run)
    assert 0 < sum(abandoned) < 5
    with privacy.Ledger(run.folder / "ledger.jsonl") as ledger:
        assert len(ledger) == 6
    assert "agrees with metrics.csv" in verified(run.folder)
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    cut_last_line(copy)
    with pytest.raises(ValueError, match=r"has 5 rounds, but .* has 6: "):
        verified(copy)
    text = " ".join((run.folder / "privacy.txt").read_text("utf-8").split())
    assert "a late device sends only its noise" in text
    assert "Abandoned rounds are charged: what devices sent has been seen." in text
    moves = []
    for number, row in enumerate(run.rows, start=1):
        # Sensitivity twice the clip, T participations.
        delta = gaussian_delta(float(row["epsilon"]), 2 * np.sqrt(number))
        assert delta == pytest.approx(1e-3, rel=1e-4)
        # Everybody on-line sends, without work, and adds noise.
        sent = 0 if row["abandoned"] == "1" else COHORT - int(row["dropped_out"])
        assert row["cohort_size"] == str(sent)
    for before, names, after in run.calls:
        moved = (weights_of(after) - weights_of(before)) * COHORT / np.sqrt(len(names))
        # 36 standard normals; the band is left with probability 1e-6.
        low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], moved.size)
        assert low < np.sum(moved**2) < high
        moves.append(moved)
    assert len({float(m[0]) for m in moves}) == len(moves)


class TestRecords:
    FLAGS = (
        "--record_noise_multiplier=1.5",
        "--client_steps=4",
        "--silo_drop_out=0.4",
        "--minimum_clients=3",
    )

    @pytest.fixture(scope="class")
    def run(self, start, tmp_path_factory):
        folder = tmp_path_factory.mktemp("records") / "run"
        return start("record_dp_fed_avg", folder, "record", *self.FLAGS, "--rounds=6")

    def test_every_silo_is_charged_for_every_round(self, run):
        assert {False, True} == set(abandoned_in(run))
        assert any(0 < int(row["dropped_out"]) < 2 for row in run.rows), (
            "a silo is down in a round that goes on"
        )
        with privacy.Ledger(run.folder / "ledger.jsonl") as ledger:
            assert len(ledger) == 6
        task = tasks.get("heart").with_batching(PoissonBatching(4, 20.0))
        event = privacy.RecordEvent.of(1.5, task.train)
        table = rows_of(run.folder, "client_epsilon.csv")
        assert len(table) == 6 * 4
        for row in table:
            names = [name for name, _ in event.clients]
            client = event.of_client(names.index(row["client_id"]))
            expected = client.epsilon(int(row["round"]), 1e-3, "pld")
            assert float(row["epsilon"]) == pytest.approx(expected, rel=1e-6)
        for number, row in enumerate(run.rows, start=1):
            largest = max(
                float(r["epsilon"]) for r in table if r["round"] == str(number)
            )
            assert float(row["epsilon"]) == pytest.approx(largest, rel=1e-8)

    def test_the_state_is_that_of_the_silos_that_reported(self, run):
        outcomes = [run.sampler.outcome(n) for n in range(1, 7)]
        cohorts = [o.client_ids for o in outcomes if not o.abandoned]
        assert [names for _, names, _ in run.calls] == cohorts
        for (_, _, after), (before, _, _) in zip(run.calls, run.calls[1:]):
            assert_equal(after, before)
        assert_equal(run.calls[-1][2], run.state)

    def test_says_what_is_charged(self, run):
        lines = [line for line in run.output.splitlines() if line.startswith("round ")]
        for line, row in zip(lines, run.rows):
            told = f"selected 4  dropped out {row['dropped_out']}  ε "
            assert (f"  abandoned  {told}" in line) == (row["abandoned"] == "1")
            assert told in line
        assert len(lines) == 6
        text = " ".join((run.folder / "privacy.txt").read_text("utf-8").split())
        assert "Every client is still charged for every round" in text
        assert "fewer than 3 reports is abandoned" in text

    def test_a_budget_can_end_in_an_abandoned_round(self, run, start, tmp_path):
        first = abandoned_in(run).index(True) + 1
        spent = [float(row["epsilon"]) for row in run.rows]
        budget = spent[first - 1] * (1 - 1e-6)
        flags = (*self.FLAGS, "--rounds=6", f"--record_budget_epsilon={budget}")
        if first == 1:
            pytest.fail("choose a seed whose first round is not abandoned")
        ended = start("record_dp_fed_avg", tmp_path / "run", "record", *flags)
        assert len(ended.rows) == first - 1
        assert [float(row["epsilon"]) for row in ended.rows] == spent[: first - 1]


def test_without_privacy_a_round_is_that_of_the_reports(start, tmp_path):
    flags = (
        *[flag for flag in DEVICES if not flag.startswith("--noise_multiplier")],
        "--over_selection=1.4",
        "--server_optimizer=adam",
        "--rounds=8",
    )
    run = start("fed_avg", tmp_path / "run", "plain", *flags)
    outcomes = [run.sampler.outcome(number) for number in range(1, 9)]
    done = [o for o in outcomes if not o.abandoned]
    assert 2 < len(done) < 8
    assert sum(o.dropped_out for o in done) > 0
    assert sum(o.late for o in done) > 0
    calls = list(run.calls)
    with engine_of(run) as engine:
        state = engine.initialize()
        for number, outcome in enumerate(outcomes, start=1):
            if outcome.abandoned:
                continue
            cohort = run.task.train.cohort(
                outcome.client_ids, seed=0, round_number=number
            )
            before, names, after = calls.pop(0)
            # Adam's moments and step count among it, over abandoned rounds too.
            assert_equal(before, state)
            assert names == outcome.client_ids
            state, _ = engine.next(state, cohort)
            assert_equal(after, state)
    assert calls == []
    assert_equal(run.state, state)
    assert {row["epsilon"] for row in run.rows} == {"inf"}
