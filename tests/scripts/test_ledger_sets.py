"""scripts/privacy_ledger: runs counted once, damage, budgets, populations."""

from __future__ import annotations

import json
import os
import re
import shutil

import numpy as np
import pytest

from tfl_research import privacy
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.accounting.totals import composed_total
from tfl_research.privacy.ledger import hash_chain, head_file
from tfl_research.storage import Checkpoint, CheckpointStore

EVENT = GaussianEvent("none", 20.0, 1.0, 900, 30.0, "add_or_remove_one")
OTHER = EVENT.with_noise(30.0)
PEOPLE = privacy.Population.of(map(str, range(900)))
SEED = 77
DELTA = privacy.default_delta(900)


def begin(folder, shared, event=EVENT, rounds=12):
    """A run's folder with its ledger, and its rounds in a shared ledger."""
    folder.mkdir()
    run = privacy.run_id(folder)
    (folder / "run_seed").write_text(f"{SEED:032x}\n")
    identity = privacy.RunIdentity(run, SEED)
    own = privacy.Ledger(folder / "ledger.jsonl", identity)
    together = privacy.SharedLedger(shared, run, PEOPLE)
    with own, together:
        for number in range(1, rounds + 1):
            together.record(number, event)
            own.record(number, event)
    return run


@pytest.fixture
def root(tmp_path):
    begin(tmp_path / "first", tmp_path / "shared.jsonl")
    begin(tmp_path / "second", tmp_path / "shared.jsonl", OTHER, 7)
    return tmp_path


def total_row(out):
    return re.search(r"^all +together +(\d+) +(\S+)$", out, re.M).groups()


def shown(groups, delta=DELTA):
    return rounded_up(privacy.composed_epsilon(groups, delta))


BOTH = [(EVENT, 12), (OTHER, 7)]


class TestRunsCountOnce:
    def expect(self, call, groups, *paths):
        code, out, err = call("show", *paths)
        assert (code, err) == (0, "")
        rounds = str(sum(count for _, count in groups))
        assert total_row(out) == (rounds, shown(groups))

    def test_a_shared_ledger_and_a_run_of_it(self, call, root):
        self.expect(call, BOTH, root / "shared.jsonl", root / "first")
        self.expect(call, BOTH, root / "first", root / "shared.jsonl", root / "second")

    def test_a_folder_by_two_paths_and_its_file(self, call, root, monkeypatch):
        (root / "link").symlink_to(root / "first")
        monkeypatch.chdir(root)
        alone = [(EVENT, 12)]
        self.expect(call, alone, root / "first", "first", root / "link")
        self.expect(call, alone, "first", "first/ledger.jsonl", "second/../first")
        self.expect(call, BOTH, "first", "shared.jsonl", "./shared.jsonl")

    def test_a_copied_folder_and_a_copied_shared_ledger(self, call, root):
        shutil.copytree(root / "first", root / "copy")
        self.expect(call, [(EVENT, 12)], root / "first", root / "copy")
        shutil.copy(root / "shared.jsonl", root / "backup.jsonl")
        shutil.copy(root / "shared.jsonl.head", root / "backup.jsonl.head")
        self.expect(call, BOTH, root / "shared.jsonl", root / "backup.jsonl")

    def test_a_copy_that_went_on_counts_as_the_longer(self, call, root):
        shutil.copytree(root / "first", root / "copy")
        with privacy.Ledger(root / "first" / "ledger.jsonl") as ledger:
            ledger.record(13, EVENT)
        for order in (("first", "copy"), ("copy", "first")):
            self.expect(call, [(EVENT, 13)], *(root / name for name in order))

    def test_old_ledgers_are_known_by_run_id_in_the_folder(self, call, tmp_path):
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            with privacy.Ledger(tmp_path / name / "ledger.jsonl") as old:
                old.record(1, EVENT)
            # Equal lines are no sign of one run: another run has the same.
        self.expect(call, [(EVENT, 2)], tmp_path / "one", tmp_path / "two")
        privacy.run_id(tmp_path / "one")
        shutil.copy(tmp_path / "one" / "run_id", tmp_path / "two" / "run_id")
        self.expect(call, [(EVENT, 1)], tmp_path / "one", tmp_path / "two")

    def test_one_id_with_different_lines_is_refused(self, call, root):
        shutil.copytree(root / "first", root / "copy")
        for name, event in (("first", EVENT), ("copy", OTHER)):
            with privacy.Ledger(root / name / "ledger.jsonl") as ledger:
                ledger.record(13, event)
        code, out, err = call("show", root / "first", root / "copy")
        assert (code, out) == (1, "")
        assert "the files are not copies of one run" in err
        assert err.count("\n") == 1


class TestDamage:
    def refused(self, call, message, *paths):
        """`show`, `plan` and `verify` see it, and show no ε."""
        plan = ["--sampler=full", "--population=900", "--noise_multiplier=25"]
        for command in (
            ["show", *paths],
            ["plan", *plan, "--rounds=3", *(f"--ledger={path}" for path in paths)],
            ["verify", *paths],
        ):
            code, out, err = call(*command)
            assert (code, out) == (1, ""), command
            assert message in err
            assert err.count("\n") == 1

    def cut(self, path, lines):
        kept = path.read_bytes().splitlines(keepends=True)[:lines]
        path.write_bytes(b"".join(kept))

    def rehash(self, path, event):
        """Writes the ledger anew with another event, and its head file with it."""
        previous, lines = hash_chain.NO_LINE_HASH, []
        for line in path.read_bytes().splitlines():
            fields = json.loads(line)
            del fields["previous"], fields["hash"]
            if "event" in fields:
                fields["event"] = event.to_dict()
            text, previous = hash_chain.encode(fields, previous)
            lines.append(text + b"\n")
        path.write_bytes(b"".join(lines))
        head_file.write(path, {"lines": len(lines), "hash": previous})

    def test_a_cut_ledger_by_its_head_file(self, call, root):
        self.cut(root / "shared.jsonl", 15)
        self.refused(call, "has 15 lines, but had 19", root / "shared.jsonl")
        self.cut(root / "first" / "ledger.jsonl", 10)
        self.refused(call, "has 10 lines, but had 13", root / "first")

    def test_a_rehashed_ledger_by_its_old_head_file(self, call, root):
        path = root / "shared.jsonl"
        head = head_file.path_of(path).read_bytes()
        self.rehash(path, EVENT.with_noise(900.0))
        head_file.path_of(path).write_bytes(head)
        self.refused(call, "differs from the line that was there before", path)

    def test_a_cut_ledger_without_head_by_the_folder(self, call, root):
        own = root / "first" / "ledger.jsonl"
        noted = {
            "metrics.csv": "round,loss\n11,1.0\n12,0.5\n",
            "privacy.txt": "   Done: 12 of 20 planned rounds.\n",
        }
        self.cut(own, 9)
        head_file.path_of(own).unlink()
        for name, text in noted.items():
            (root / "first" / name).write_text(text)
            message = f"has 8 rounds, but {root / 'first' / name} has 12"
            self.refused(call, message, root / "first")
            (root / "first" / name).unlink()

    @pytest.mark.parametrize("accountant", [None, "pld", "rdp"])
    @pytest.mark.parametrize("name", ["metrics.csv", "summary.json"])
    def test_a_rehashed_ledger_by_the_epsilon_of_the_folder(
        self, call, root, name, accountant
    ):
        folder, own = root / "first", root / "first" / "ledger.jsonl"
        epsilon = privacy.composed_epsilon([(EVENT, 12)], 1e-4, accountant)
        if name == "metrics.csv":
            text = f"round,epsilon,delta\n12,{epsilon:.9g},0.0001\n"
        else:
            text = json.dumps({"final": {"epsilon": epsilon, "delta": 1e-4}})
        (folder / name).write_text(text)
        if accountant is not None:
            record = {"privacy_plan": {"accountant": accountant}}
            (folder / "hparams.json").write_text(json.dumps(record))
        assert call("show", folder)[0] == call("verify", folder)[0] == 0
        self.rehash(own, EVENT.with_noise(40.0))
        self.refused(call, f"{folder / name} has ε = {epsilon:.4g}", folder)

    def test_a_rehashed_ledger_by_the_checkpoints(self, call, root):
        own, shared = root / "first" / "ledger.jsonl", root / "shared.jsonl"
        store = CheckpointStore(root / "first" / "checkpoints")
        at = {}
        for name, path in (("own", own), ("shared", shared)):
            line = json.loads(path.read_bytes().splitlines()[9])
            at[name] = {"lines": 10, "hash": line["hash"]}
        store.save(Checkpoint(9, np.zeros(2), None, {"ledgers": at}))
        assert call("show", shared, root / "first")[0] == 0
        whole = own.read_bytes(), head_file.path_of(own).read_bytes()
        self.rehash(own, OTHER)
        self.refused(
            call, "line 10: differs from the line that was there before", root / "first"
        )
        own.write_bytes(whole[0])
        head_file.path_of(own).write_bytes(whole[1])
        self.rehash(shared, EVENT.with_noise(900.0))
        self.refused(call, "has Round(round=1", shared, root / "first")

    def test_a_shared_ledger_that_lacks_a_run_s_lines(self, call, root):
        shared = root / "shared.jsonl"
        self.cut(shared, 15)
        head_file.path_of(shared).unlink()
        message = "has 3 lines of the run in"
        self.refused(call, message, shared, root / "second")

    def test_another_run_seed_or_run_id(self, call, root):
        (root / "first" / "run_seed").write_text(f"{SEED + 1:032x}\n")
        self.refused(call, "was begun with another run seed", root / "first")
        (root / "first" / "run_seed").unlink()
        assert call("show", root / "first")[0] == 0
        (root / "first" / "run_id").write_text("f" * 16 + "\n")
        self.refused(call, "run_id says ffffffffffffffff", root / "first")

    def test_without_a_head_file_one_line_says_what_cannot_be_checked(self, call, root):
        moved = root / "elsewhere.jsonl"
        os.rename(root / "shared.jsonl", moved)
        for command in ("show", "verify"):
            code, _, err = call(command, moved)
            assert code == 0
            assert "the end of the ledger could not be checked" in err
            assert err.count("\n") == 1
        # A head file that a power failure left empty tells nothing either.
        head_file.path_of(moved).write_bytes(b"")
        code, _, err = call("show", moved)
        assert code == 0
        assert "could not be checked" in err

    def test_the_head_file_is_never_ahead(self, root, monkeypatch):
        seen = []
        fsync, write = os.fsync, head_file.Writer.write
        monkeypatch.setattr(os, "fsync", lambda fd: (seen.append("line"), fsync(fd)))
        monkeypatch.setattr(
            head_file.Writer,
            "write",
            lambda *given: (seen.append("head"), write(*given)),
        )
        with privacy.Ledger(root / "first" / "ledger.jsonl") as ledger:
            ledger.record(13, EVENT)
            ledger.record(14, EVENT)
            assert head_file.read(ledger.path) == ledger.position
        assert seen == ["line", "head"] * 2


class TestBudgets:
    def test_is_written_shown_and_planned_with(self, call, tmp_path):
        path = tmp_path / "shared.jsonl"
        code, out, err = call("budget", path, "--epsilon=3", "--delta=1e-5")
        assert (code, err) == (0, "")
        assert "none before" in out
        begin(tmp_path / "first", path)
        code, out, _ = call("show", path)
        spent = privacy.composed_epsilon([(EVENT, 12)], 1e-5)
        assert code == 0
        assert f"{path}: ε = 3 at δ = 1e-05; spent ε = {rounded_up(spent)}, " in out
        code, out, _ = call(
            "plan", f"--event_of={path}", f"--ledger={path}", "--rounds=2"
        )
        assert code == 0
        left = int(re.search(rf"(\d+) rounds are left of the budget of {path}", out)[1])
        curve = privacy.EpsilonCurve(EVENT, 1e-5)
        assert curve(12 + left) <= 3 < curve(12 + left + 1)

    def test_lowering_is_free_and_raising_is_recorded(self, call, tmp_path):
        path = tmp_path / "shared.jsonl"
        assert call("budget", path, "--epsilon=3", "--delta=1e-5")[0] == 0
        code, out, _ = call("budget", path, "--epsilon=2", "--delta=1e-5")
        assert code == 0
        assert "before it ε = 3 at δ = 1e-05" in out
        for more in (
            ("--epsilon=2.5", "--delta=1e-5"),
            ("--epsilon=2", "--delta=1e-4"),
        ):
            code, out, err = call("budget", path, *more)
            assert (code, out) == (2, "")
            assert "would allow more: give --raise" in err
        # The accountant counts too: Rényi DP is the stricter one.
        stricter = "--epsilon=2", "--delta=1e-5", "--accountant=rdp"
        assert call("budget", path, *stricter)[0] == 0
        assert call("budget", path, "--epsilon=2", "--delta=1e-5")[0] == 2
        assert call("budget", path, "--epsilon=9", "--delta=1e-5", "--raise")[0] == 0
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert [line["budget"] for line in lines] == [3, 2, 2, 9]
        assert [line.get("raised") for line in lines] == [None, None, None, True]
        # The same again is no line.
        assert call("budget", path, "--epsilon=9", "--delta=1e-5")[0] == 0
        assert len(path.read_bytes().splitlines()) == 4

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                "{root}/first/ledger.jsonl --epsilon=3 --delta=1e-5",
                "is one run's own ledger",
            ),
            ("{root}/first --epsilon=3 --delta=1e-5", "is a folder; give the file"),
            ("{root}/shared.jsonl --epsilon=0 --delta=1e-5", "epsilon must be above 0"),
            ("{root}/shared.jsonl --epsilon=3 --delta=2", "delta must be above 0"),
            ("{root}/no/shared.jsonl --epsilon=3 --delta=1e-5", "cannot open"),
        ],
    )
    def test_refusals_are_one_line(self, call, root, arguments, message):
        before = (root / "first" / "ledger.jsonl").read_bytes()
        code, out, err = call("budget", *arguments.format(root=root).split())
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
        assert (root / "first" / "ledger.jsonl").read_bytes() == before


class TestPlan:
    def test_another_population_is_refused(self, call, root):
        plan = ("plan", "--sampler=full", "--noise_multiplier=25", "--rounds=3")
        for ledger in (root / "shared.jsonl", root / "first"):
            code, out, err = call(*plan, "--population=901", f"--ledger={ledger}")
            assert (code, out) == (2, "")
            assert "--population: the planned rounds are over 901 clients" in err
            assert err.count("\n") == 1
            assert call(*plan, "--population=900", f"--ledger={ledger}")[0] == 0

    def test_event_of_another_population_is_refused(self, call, root):
        other = root / "other.jsonl"
        people = privacy.Population.of([f"x{number}" for number in range(900)])
        with privacy.SharedLedger(other, "0" * 16, people) as shared:
            shared.record(1, EVENT)
        smaller = root / "smaller.jsonl"
        with privacy.Ledger(smaller) as own:
            own.record(1, GaussianEvent("none", 9.0, 1.0, 90, 9.0, "add_or_remove_one"))
        for like, message in (
            (other, "is about another population than"),
            (smaller, "--event_of: the planned rounds are over 90 clients"),
        ):
            code, out, err = call(
                "plan", f"--event_of={like}", f"--ledger={root / 'shared.jsonl'}",
                "--rounds=3",
            )  # fmt: skip
            assert (code, out) == (2, "")
            assert message in err.splitlines()[-1]

    def test_another_unit_is_refused(self, call, root):
        records = root / "records.jsonl"
        with privacy.Ledger(records) as own:
            own.record(1, privacy.RecordEvent(1.0, 8.0, 4, 1, (("a", 90),)))
        code, out, err = call(
            "plan", f"--event_of={records}", f"--ledger={root / 'first'}",
            "--rounds=3", "--delta=1e-5",
        )  # fmt: skip
        assert (code, out) == (2, "")
        assert "have a record as the unit of privacy" in err.splitlines()[-1]

    @pytest.mark.parametrize("mechanism", ["discrete_gaussian", "skellam"])
    @pytest.mark.parametrize("sampler", ["fixed", "shuffled", "full"])
    def test_mechanisms_whose_clients_add_the_noise(self, call, mechanism, sampler):
        shape = [
            f"--mechanism={mechanism}", f"--sampler={sampler}", "--population=200",
            "--dimension=1000", "--rounds=20", "--delta=1e-6",
        ]  # fmt: skip
        if sampler != "full":
            shape.append("--cohort_size=20")
        code, out, err = call("plan", *shape, "--target_epsilon=8")
        assert (code, err) == (0, "")
        noise = re.search(r"noise multiplier z = (\S+): the least", out)[1]
        code, out, _ = call("plan", *shape, f"--noise_multiplier={noise}")
        assert code == 0
        epsilon = float(re.search(r"^planned .* (\S+)$", out, re.M)[1])
        assert 7.8 < epsilon <= 8
        assert "accountant: RDP (the tightest that applies)" in out

    def test_a_tiny_delta_has_a_finite_bound(self, call):
        code, out, _ = call(
            "plan", "--sampling_rate=0.02", "--noise_multiplier=2", "--rounds=100",
            "--delta=1e-25",
        )  # fmt: skip
        event = privacy.GaussianEvent.poisson(2.0, 0.02)
        expected = privacy.composed_epsilon([(event, 100)], 1e-25, "rdp")
        assert code == 0
        assert re.search(rf"^planned .* {rounded_up(expected)}$", out, re.M)
        assert "accountant: RDP (the tightest that applies)" in out


class TestUnlikeRelations:
    def test_show_and_plan_say_relation_and_theorem(self, call, root):
        path = root / "shared.jsonl"
        fixed = GaussianEvent("fixed_size", 20.0, 0.1, 900, 90.0, "replace_one")
        with privacy.SharedLedger(path, "0" * 16, PEOPLE) as shared:
            shared.record(1, fixed)
            total = shared.total_after(1, fixed, DELTA)
        expected = composed_total([*BOTH, (fixed, 1)], DELTA)
        assert total == expected
        code, out, err = call("show", path)
        assert (code, err) == (0, "")
        assert total_row(out) == ("20", rounded_up(expected.epsilon))
        assert "neighbouring relation replace_one" in out
        assert "ε of all is under replace_one (rounds under add_or_remove_one" in out
        assert "group privacy of two steps" in out
        assert re.search(r"gaussian z=20 q=1 \(add_or_remove_one\)", out)
        code, out, _ = call(
            "plan", "--sampler=fixed", "--cohort_size=90", "--population=900",
            "--noise_multiplier=20", "--rounds=1", f"--ledger={root / 'first'}",
        )  # fmt: skip
        assert code == 0
        assert "ε together is under replace_one (rounds under" in out
