"""Sweeps: points run once, in folders of their own, and resume."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
from typing import ClassVar

import pytest

from tfl_research import flags
from tfl_research.errors import RunInterrupted, UserError
from tfl_research.flags import app, declare, rehearsal, sweep


@dataclasses.dataclass(frozen=True)
class ToyFlags(declare.FlagGroup):
    """What the toy experiment takes."""

    TITLE: ClassVar[str] = "Toy"

    strength: float = declare.real(1.0, "Of the toy.", above=0)
    names: tuple[str, ...] = declare.repeated("Any.")
    loud: bool = declare.switch(False, "Whether.")


class Toy:
    """An experiment that writes a summary and remembers that it ran."""

    __name__ = "toy"
    GROUPS = (ToyFlags, flags.RunFlags)
    DEFAULTS: ClassVar[dict] = {"rounds": 7}

    def __init__(self):
        self.ran = []
        self.fail_at = None

    def main(self):
        toy, run = ToyFlags.get(), flags.RunFlags.get()
        rehearsal.everything_is_checked()
        folder = pathlib.Path(run.output_dir)
        if self.fail_at == toy.strength:
            raise RunInterrupted()
        self.ran.append((folder.name, toy.strength, run.rounds))
        folder.mkdir(parents=True)
        best = {"round": 3, "selected_by": "eval_accuracy", "value": 0.75}
        final = {"round": run.rounds, "eval_accuracy": toy.strength / 4}
        summary = {"final": final, "best": best, "stop_reason": "rounds"}
        (folder / "summary.json").write_text(json.dumps(summary))


def points(toy, strengths=(1.0, 2.0, 3.0)):
    experiment = sweep.Experiment.of(toy)
    return [
        sweep.Point(
            f"toy-{s:g}", experiment, (f"--strength={s}",), {"strength": s, "seed": 0}
        )
        for s in strengths
    ]


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_point_runs_once_in_its_folder(tmp_path):
    toy, out = Toy(), io.StringIO()
    found = sweep.Sweep(tmp_path / "s", points(toy)).run(out)
    assert toy.ran == [("toy-1", 1.0, 7), ("toy-2", 2.0, 7), ("toy-3", 3.0, 7)]
    assert [row["final_value"] for row in found] == [0.25, 0.5, 0.75]
    assert [row["best_value"] for row in found] == [0.75] * 3
    assert [row["strength"] for row in rows(tmp_path / "s")] == ["1.0", "2.0", "3.0"]
    assert "[3/3] toy-3: eval_accuracy 0.75, rounds after round 7" in out.getvalue()
    again = sweep.Sweep(tmp_path / "s", points(toy)).run(io.StringIO())
    assert len(toy.ran) == 3
    assert again == found


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path):
    toy = Toy()
    toy.fail_at = 2.0
    with pytest.raises(RunInterrupted):
        sweep.Sweep(tmp_path, points(toy)).run(io.StringIO())
    assert len(rows(tmp_path)) == 1
    toy.fail_at = None
    sweep.Sweep(tmp_path, points(toy)).run(io.StringIO())
    assert [name for name, _, _ in toy.ran] == ["toy-1", "toy-2", "toy-3"]
    assert len(rows(tmp_path)) == 3


def test_more_points_may_be_added_but_none_changed(tmp_path):
    toy = Toy()
    sweep.Sweep(tmp_path, points(toy, (1.0,))).run(io.StringIO())
    sweep.Sweep(tmp_path, points(toy, (1.0, 2.0))).run(io.StringIO())
    assert len(toy.ran) == 2
    (changed,) = points(toy, (1.0,))
    changed = dataclasses.replace(changed, arguments=("--strength=9",))
    with pytest.raises(UserError, match=r"toy-1 was begun as toy --strength=1\.0"):
        sweep.Sweep(tmp_path, [changed])


def test_a_point_that_was_left_out_is_not_changed_either(tmp_path):
    toy = Toy()
    sweep.Sweep(tmp_path, points(toy, (1.0, 2.0))).run(io.StringIO())
    first, second = points(toy, (1.0, 2.0))
    sweep.Sweep(tmp_path, [first]).run(io.StringIO())
    # Its results are those of the former flags.
    changed = dataclasses.replace(second, arguments=("--strength=9",))
    with pytest.raises(UserError, match=r"toy-2 was begun as toy --strength=2\.0"):
        sweep.Sweep(tmp_path, [first, changed])


def test_a_refused_point_ends_the_sweep_before_anything_is_written(tmp_path, capsys):
    toy, folder = Toy(), tmp_path / "new"
    *good, bad = points(toy)
    bad = dataclasses.replace(bad, arguments=("--strength=-1",))
    refused = (
        "point toy-3 of the sweep is refused: --strength=-1: must be a number, above 0"
    )
    with pytest.raises(UserError, match=refused):
        sweep.Sweep(folder, [*good, bad]).run(io.StringIO())
    assert capsys.readouterr().err == ""
    assert toy.ran == []
    assert not folder.exists()
    # The same folder serves when the flag is right.
    mended = dataclasses.replace(bad, arguments=("--strength=3.5",))
    sweep.Sweep(folder, [*good, mended]).run(io.StringIO())
    assert len(toy.ran) == 3


def test_a_rehearsal_ends_where_everything_is_checked():
    went_on = []
    with rehearsal.rehearsal():
        rehearsal.everything_is_checked()
        went_on.append("in a rehearsal")
    rehearsal.everything_is_checked()
    assert went_on == []
    with pytest.raises(ValueError, match="bad"), rehearsal.rehearsal():
        raise ValueError("bad")


def test_folders_that_are_none(tmp_path):
    (tmp_path / "other").write_text("")
    with pytest.raises(UserError, match=r"holds other files and no sweep\.json"):
        sweep.Sweep(tmp_path, points(Toy()))
    (tmp_path / "other").unlink()
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        sweep.Sweep(tmp_path, points(Toy()))
    with pytest.raises(UserError, match="point toy-1 twice"):
        sweep.Sweep(tmp_path / "new", points(Toy(), (1.0, 1.0)))
    (tmp_path / "file").write_text("")
    for path, said in (("file", "cannot read"), ("file/in", "cannot write to")):
        with pytest.raises(UserError, match=said):
            sweep.Sweep(tmp_path / path, points(Toy())).run(io.StringIO())


def test_given_flags_are_passed_on():
    seen = []

    def main():
        seen.extend(sweep.passed_on((ToyFlags, flags.RunFlags), without=("rounds",)))

    arguments = ["--names=a", "--names=b c", "--loud", "--rounds=3", "--seed=4"]
    code = app.execute(main, Toy.GROUPS, "", ["toy", *arguments], defaults={"seed": 2})
    assert code == 0
    assert seen == ["--loud=true", "--names=a", "--names=b c", "--seed=4"]


def test_runs_of_a_sweep_do_not_share_their_noise(capsys):
    def main():
        sweep.passed_on((ToyFlags, flags.RunFlags), without=("rounds",))

    code = app.execute(main, Toy.GROUPS, "", ["toy", "--run_seed=4"])
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --run_seed: runs that share it have the same noise")
    assert "4" not in line


class TestPrivacyUtilityFlags:
    def test_the_grid(self):
        given = flags.PrivacyUtilityFlags(
            epsilons="1, 2.5",
            mechanisms="gaussian,tree",
            seeds="3",
            mechanism_flags=("tree: --sampler=shuffled --restart_every=5",),
        )
        assert given.grid() == (["gaussian", "tree"], [1.0, 2.5], [3])
        assert given.further() == {"tree": ["--sampler=shuffled", "--restart_every=5"]}

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"epsilons": "1,x"}, "--epsilons=1,x: 'x': must be a number above 0"),
            ({"epsilons": "0"}, "must be a number above 0"),
            ({"epsilons": "inf"}, "must be a number above 0"),
            ({"epsilons": "1,1"}, "'1' is given twice"),
            ({"seeds": "-1"}, "must be a whole number"),
            ({"mechanisms": "laplace"}, "'laplace': must be one of gaussian"),
            ({"mechanism_flags": ("tree: --bands=1",)}, "must begin with one of"),
            ({"mechanism_flags": ("gaussian --bands=1",)}, "must begin with one of"),
        ],
    )
    def test_what_is_refused(self, wrong, message):
        with pytest.raises(flags.FlagError) as caught:
            flags.PrivacyUtilityFlags(**wrong)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("group", "wrong", "message"),
    [
        (
            flags.HeterogeneityFlags,
            {"algorithms": "fed_avg", "algorithm_flags": ("fed_avg: --x='a",)},
            "--algorithm_flags=fed_avg: --x='a: No closing quotation; close it",
        ),
        (
            flags.HeterogeneityFlags,
            {"algorithms": "fed_avg", "algorithm_flags": ("fed_avg: --seed=7",)},
            "the sweep sets --seed; leave it out",
        ),
        (
            flags.HeterogeneityFlags,
            {"algorithms": "fed_avg", "algorithm_flags": ("fed_avg: -algorithm mime",)},
            "the sweep sets --algorithm",
        ),
        (
            flags.CrossSiloFlags,
            {"algorithm_flags": ("fed_avg: --sampler=fixed",)},
            "the sweep sets --sampler",
        ),
        (
            flags.CrossSiloFlags,
            {"record_flags": ("--record_target_epsilon=1",)},
            "--record_flags=--record_target_epsilon=1: the sweep sets",
        ),
        (flags.CrossSiloFlags, {"record_flags": ("'",)}, "No closing quotation"),
        (
            flags.PrivacyUtilityFlags,
            {"mechanisms": "tree", "mechanism_flags": ("tree: --target_epsilon=1",)},
            "the sweep sets --target_epsilon",
        ),
        (
            flags.ByzantineGridFlags,
            {"attacks": "alie", "attack_flags": ("alie: --attack=sign_flip",)},
            "the sweep sets --attack",
        ),
        (
            flags.ByzantineGridFlags,
            {"rules": "krum", "rule_flags": ("krum: --aggregator=mean",)},
            "the sweep sets --aggregator",
        ),
    ],
)
def test_further_flags_leave_a_run_what_the_tables_call_it(group, wrong, message):
    with pytest.raises(flags.FlagError) as caught:
        group(**wrong)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
