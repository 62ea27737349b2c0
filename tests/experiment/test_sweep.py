"""Sweeps: points run once, in folders of their own, and resume; no TensorFlow."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib

import pytest

from tfl_research.errors import (
    RunInterrupted,
    SettingError,
    TrainingDivergedError,
    UserError,
)
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import Cohorts, Training, UserLevelPrivacy
from tfl_research.experiment.sweeps import Point, Sweep
from tfl_research.experiment.sweeps.told import cells
from tfl_research.privacy import mechanisms
from tfl_research.tasks import shared

# Of every toy experiment that ran: folder, learning rate, rounds.
RAN: list[tuple[str, float, int]] = []
# Of each: whether it was private, and recharged.
RECHARGED: list[tuple[bool, bool]] = []
# What happens at a learning rate, in place of a run.
FAILS: dict[float, BaseException] = {}


class Toy(Experiment):
    """An experiment that writes a summary and remembers that it ran."""

    def check(self):
        if self.clients.learning_rate > 10:
            raise SettingError("--client_learning_rate=99: too large; lower --it")

    def run(self, folder, *, resume=True, recharge=False, stream=None):
        RECHARGED.append((self.privacy is not None, recharge))
        rate, rounds = self.clients.learning_rate, self.training.rounds
        if rate in FAILS and not isinstance(FAILS[rate], TrainingDivergedError):
            raise FAILS[rate]
        assert self.training.progress_bar is False
        assert self.training.tensorboard is False
        folder = pathlib.Path(folder)
        RAN.append((folder.name, rate, rounds))
        folder.mkdir(parents=True)
        best = {"round": 3, "selected_by": "eval_accuracy", "value": 0.75}
        final = {"round": rounds, "eval_accuracy": rate / 4, "epsilon": 1.5}
        summary = {"final": final, "best": best, "stop_reason": "rounds"}
        if rate in FAILS:
            summary = {
                "final": {"round": 2},
                "best": None,
                "stop_reason": "diverged",
            }
        (folder / "summary.json").write_text(json.dumps(summary))
        if rate in FAILS:
            raise FAILS[rate]


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()
    FAILS.clear()


BASE = Toy("heart", training=Training(rounds=7), name="toy")


def points(rates=(1.0, 2.0, 3.0), base=BASE):
    return [
        Point(
            f"toy-{rate:g}",
            base.with_settings(client_learning_rate=rate),
            {"rate": rate, "seed": 0},
        )
        for rate in rates
    ]


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_point_runs_once_in_its_folder(tmp_path):
    out = io.StringIO()
    found = Sweep(tmp_path / "s", points()).run(out)
    assert RAN == [("toy-1", 1.0, 7), ("toy-2", 2.0, 7), ("toy-3", 3.0, 7)]
    assert [row["final_value"] for row in found] == [0.25, 0.5, 0.75]
    assert [row["best_value"] for row in found] == [0.75] * 3
    assert [row["epsilon"] for row in found] == [1.5] * 3
    assert [row["rate"] for row in rows(tmp_path / "s")] == ["1.0", "2.0", "3.0"]
    assert "[3/3] toy-3: eval_accuracy 0.75, rounds after round 7" in out.getvalue()
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        "points",
        "results.csv",
        "sweep.json",
    ]
    again = Sweep(tmp_path / "s", points()).run(io.StringIO())
    assert len(RAN) == 3
    assert again == found


def test_data_are_read_once_for_all_points(tmp_path):
    built = []

    class Reads(Toy):
        def check(self):
            built.append(self.task.build(seed=0))

    points = [Point(str(i), Reads("heart")) for i in range(3)]
    Sweep(tmp_path, points).run(io.StringIO())
    assert len({id(task.train.load) for task in built}) == 1
    assert len({id(task.fitting) for task in built}) == 3
    assert not shared.is_sweep()
    again = Reads("heart").task.build(seed=0)
    assert again.train.load is not built[0].train.load


def test_a_sweep_that_fails_keeps_no_data(tmp_path):
    points = [Point("bad", Toy("heart").with_settings(client_learning_rate=99.0))]
    with pytest.raises(UserError, match="too large"):
        Sweep(tmp_path, points).run(io.StringIO())
    assert not shared.is_sweep()


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path):
    FAILS[2.0] = RunInterrupted()
    with pytest.raises(RunInterrupted):
        Sweep(tmp_path, points()).run(io.StringIO())
    assert len(rows(tmp_path)) == 1
    FAILS.clear()
    Sweep(str(tmp_path), points()).run(io.StringIO())
    assert [name for name, _, _ in RAN] == ["toy-1", "toy-2", "toy-3"]
    assert len(rows(tmp_path)) == 3


def test_more_points_may_be_added_but_none_changed(tmp_path):
    Sweep(tmp_path, points((1.0,))).run(io.StringIO())
    Sweep(tmp_path, points((1.0, 2.0))).run(io.StringIO())
    assert len(RAN) == 2
    (changed,) = points((1.0,))
    other = changed.experiment.with_settings(client_learning_rate=9.0)
    with pytest.raises(UserError) as raised:
        Sweep(tmp_path, [dataclasses.replace(changed, experiment=other)])
    assert raised.value.for_command_line == (
        f"{tmp_path / 'sweep.json'}: point toy-1 was begun with client_learning_rate = "
        "1.0, not 9.0; repeat the former settings or choose another --output_dir"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 3}, "seed = 0, not 3"),
        # A finished point would keep the results of the former rounds.
        ({"rounds": 70}, "rounds = 7, not 70"),
        ({"evaluate_every": 2}, "evaluate_every = 10, not 2"),
        ({"aggregator": "clipping"}, "aggregator = mean, not clipping"),
        ({"algorithm": "fed_prox"}, "algorithm = fed_avg, not fed_prox"),
        ({"client_weight": ("Cleveland=2",)}, "client_weight = [], not ['Cleveland=2'"),
    ],
)
def test_what_changed_is_named(tmp_path, changes, words):
    Sweep(tmp_path, points((1.0,))).run(io.StringIO())
    with pytest.raises(UserError, match="point toy-1 was begun with") as raised:
        Sweep(tmp_path, points((1.0,), BASE.with_settings(**changes)))
    assert words in str(raised.value)


def test_another_name_is_another_experiment(tmp_path):
    Sweep(tmp_path, points((1.0,))).run(io.StringIO())
    with pytest.raises(UserError, match="begun with experiment = toy, not other"):
        Sweep(tmp_path, points((1.0,), dataclasses.replace(BASE, name="other")))


def test_what_changes_no_result_may_change(tmp_path):
    Sweep(tmp_path, points((1.0,))).run(io.StringIO())
    other = BASE.with_settings(
        checkpoint_every=3, keep_checkpoints=1, print_every=5, tensorboard=False
    )
    Sweep(tmp_path, points((1.0,), other)).run(io.StringIO())
    assert len(RAN) == 1


def test_settings_of_every_kind_are_the_same_when_read_back(tmp_path):
    """JSON has no tuples."""
    private = UserLevelPrivacy(mechanisms.Tree(), noise_multiplier=1e-7, delta=1e-12)
    base = Toy(
        "heart",
        privacy=private,
        cohorts=Cohorts("min_separation", 2),
        training=Training(rounds=7, client_weight=("Cleveland=2", "Hungary=3")),
        name="toy",
    )
    Sweep(tmp_path, points((0.1, 1 / 3), base)).run(io.StringIO())
    Sweep(tmp_path, points((0.1, 1 / 3), base)).run(io.StringIO())
    assert len(RAN) == 2


def test_a_point_that_was_left_out_is_not_changed_either(tmp_path):
    Sweep(tmp_path, points((1.0, 2.0))).run(io.StringIO())
    first, second = points((1.0, 2.0))
    Sweep(tmp_path, [first]).run(io.StringIO())
    # Its results are those of the former settings.
    changed = dataclasses.replace(
        second, experiment=second.experiment.with_settings(client_learning_rate=9)
    )
    with pytest.raises(UserError, match=r"toy-2 was begun with client_learning_rate "):
        Sweep(tmp_path, [first, changed])


def test_points_that_a_start_leaves_out_are_named(tmp_path):
    out = io.StringIO()
    Sweep(tmp_path, points((1.0, 2.0, 3.0))).run(out)
    assert "leaves out" not in out.getvalue()
    Sweep(tmp_path, points((3.0,))).run(out)
    words = "results.csv leaves out 2 points of an earlier start: toy-1, toy-2; their"
    assert words in out.getvalue()
    assert [row["rate"] for row in rows(tmp_path)] == ["3.0"]
    out = io.StringIO()
    Sweep(tmp_path, points((1.0, 2.0, 3.0))).run(out)
    assert "leaves out" not in out.getvalue()
    assert len(rows(tmp_path)) == len(RAN) == 3


def test_a_refused_point_ends_the_sweep_before_anything_is_written(tmp_path, capsys):
    folder = tmp_path / "new"
    bad = points((1.0, 2.0, 99.0))
    for act in (Sweep.run, Sweep.check):
        with pytest.raises(UserError) as raised:
            act(Sweep(folder, bad))
        assert raised.value.for_command_line == (
            "point toy-99 of the sweep is refused: --client_learning_rate=99: too "
            "large; lower --it"
        )
    assert capsys.readouterr() == ("", "")
    assert RAN == []
    assert not folder.exists()
    # The same folder serves when the setting is right.
    Sweep(folder, points((1.0, 2.0, 9.0))).run(io.StringIO())
    assert len(RAN) == 3


def test_private_points_are_recharged(tmp_path):
    private = UserLevelPrivacy("gaussian", noise_multiplier=1.0, delta=1e-2)
    toy = points()[0].experiment
    noised = dataclasses.replace(
        toy, privacy=private, cohorts=Cohorts("full"), name="toy"
    )
    both = [Point("plain", toy), Point("private", noised)]
    RECHARGED.clear()
    Sweep(tmp_path, both).run(io.StringIO(), recharge=True)
    assert RECHARGED == [(False, False), (True, True)]


@pytest.mark.parametrize(
    ("count", "ledger", "says"),
    [(1, None, False), (2, None, True), (2, "shared.jsonl", False)],
)
def test_epsilon_of_several_private_points_is_of_each_alone(
    tmp_path, count, ledger, says
):
    private = [
        UserLevelPrivacy(noise_multiplier=z, delta=1e-2, ledger=ledger)
        for z in (1.0, 2.0)
    ]
    toy = points()[0].experiment
    plain = Point("plain", toy)
    noised = [
        Point(
            f"private-{n}",
            dataclasses.replace(toy, privacy=p, cohorts=Cohorts("full"), name="toy"),
        )
        for n, p in enumerate(private[:count])
    ]
    out = io.StringIO()
    Sweep(tmp_path, [plain, *noised]).run(out)
    line = (
        "each ε covers its own point only: 2 points are private, and choosing among "
        "them costs the ε of all together, which scripts/privacy_ledger show "
        f"{tmp_path}/points/*/ledger.jsonl computes\n"
    )
    assert out.getvalue().endswith(line) is says
    assert ("its own point only" in out.getvalue()) is says
    exact = "no ε covers what these points without privacy gave out: plain\n"
    assert exact in out.getvalue()


def test_without_private_points_no_line_says_what_epsilon_covers(tmp_path):
    out = io.StringIO()
    Sweep(tmp_path, points((1.0, 2.0))).run(out)
    assert "ε" not in out.getvalue()


def test_points_that_have_ended_are_not_checked_again(tmp_path, monkeypatch):
    Sweep(tmp_path, points((1.0,))).run(io.StringIO())
    checked = []
    monkeypatch.setattr(Toy, "check", lambda self: checked.append(self))
    Sweep(tmp_path, points((1.0, 2.0))).run(io.StringIO())
    assert [experiment.clients.learning_rate for experiment in checked] == [2.0]


def test_epsilon_has_what_is_charged_beside_the_rounds():
    summary = {
        "final": {"round": 3, "epsilon": 1.5},
        "best": {"round": 2, "selected_by": "private_choice", "value": None},
        "stop_reason": "rounds",
        "epsilon": 2.25,
    }
    assert cells(summary)["epsilon"] == 2.25


def test_a_point_that_diverges_has_a_row_and_the_sweep_goes_on(tmp_path, capsys):
    FAILS[2.0] = TrainingDivergedError(
        "round 3: the aggregated model is not finite; give another --output_dir"
    )
    out = io.StringIO()
    found = Sweep(tmp_path, points()).run(out)
    assert [row["stop_reason"] for row in found] == ["rounds", "diverged", "rounds"]
    assert [row["rounds"] for row in found] == [7, 2, 7]
    assert "best_value" not in found[1]
    assert rows(tmp_path)[1]["final_value"] == ""
    assert "[2/3] toy-2: no metric, diverged after round 2" in out.getvalue()
    assert capsys.readouterr().err == (
        "point toy-2: round 3: the aggregated model is not finite; give another "
        "--output_dir\n"
    )
    # It has ended: it is not begun again.
    assert Sweep(tmp_path, points()).run(io.StringIO()) == found
    assert len(RAN) == 3


def test_a_point_that_fails_is_named(tmp_path):
    FAILS[2.0] = UserError("the --ledger is full")
    with pytest.raises(UserError) as raised:
        Sweep(tmp_path, points()).run(io.StringIO())
    assert raised.value.for_command_line == (
        "point toy-2 of the sweep: the --ledger is full"
    )
    FAILS[2.0] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        Sweep(tmp_path, points()).run(io.StringIO())
    assert len(rows(tmp_path)) == 1


def test_a_point_that_leaves_no_summary(tmp_path, monkeypatch):
    monkeypatch.setattr(Toy, "run", lambda self, folder, **_: None)
    with pytest.raises(UserError, match=r"^point toy-1 left no summary\.json$"):
        Sweep(tmp_path, points()).run(io.StringIO())


@pytest.mark.parametrize("name", ["a/b", "..", ".", "", "/a"])
def test_a_name_that_is_no_folder_is_refused(name):
    with pytest.raises(
        UserError, match=("a point's name is also the name of its folder, got")
    ):
        Point(name, BASE)


def test_what_is_no_point_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"got Toy; give Point\(name, experiment"):
        Sweep(tmp_path / "sweep", [BASE])


def test_folders_that_are_none(tmp_path):
    (tmp_path / "other").write_text("")
    with pytest.raises(UserError, match=r"holds other files and no sweep\.json"):
        Sweep(tmp_path, points())
    (tmp_path / "other").unlink()
    with pytest.raises(UserError, match="point toy-1 twice"):
        Sweep(tmp_path / "new", points((1.0, 1.0)))
    (tmp_path / "file").write_text("")
    for path, said in (("file", "cannot read"), ("file/in", "cannot write to")):
        with pytest.raises(UserError, match=said):
            Sweep(tmp_path / path, points()).run(io.StringIO())
    assert RAN == []


OF_COMMAND_LINES = {
    "none-mean-0.2-0": ["robust_fed_avg", "--task=heart", "--aggregator=mean"],
    "none-krum-0.2-0": ["robust_fed_avg", "--task=heart", "--aggregator=krum"],
}


def test_a_sweep_of_command_lines_is_refused(tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(OF_COMMAND_LINES))
    with pytest.raises(UserError) as raised:
        Sweep(tmp_path, points())
    assert raised.value.for_command_line == (
        f"{path} is of an earlier version, which recorded command lines; finish that "
        "sweep with that version, or choose another --output_dir"
    )
    assert json.loads(path.read_text()) == OF_COMMAND_LINES


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        '{"format": 3, "points": {}}',
        '{"format": 2}',
        '{"format": 2, "points": []}',
        '{"format": 2, "points": {"toy-1": ["a"]}}',
        '{"points": {}}',
    ],
)
def test_a_record_that_is_none(tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(UserError) as raised:
        Sweep(tmp_path, points())
    assert raised.value.for_command_line == (
        f"{tmp_path / 'sweep.json'} is not the record of a sweep that this version can "
        "read; restore it or choose another --output_dir"
    )


def test_a_damaged_record(tmp_path):
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(UserError, match=r"is damaged .* restore it or choose another"):
        Sweep(tmp_path, points())
