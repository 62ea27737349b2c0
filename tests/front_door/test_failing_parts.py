"""Code of a user's own parts that raises: the error names the part and the line."""

from __future__ import annotations

import pathlib
import sys

import pytest

import tfl_research as tfl
from tfl_research import cli, errors, registry
from tfl_research.errors import OwnPartError

PARTS = """\
import dataclasses

import tfl_research as tfl


@tfl.algorithms.register
@dataclasses.dataclass(frozen=True)
class Algorithm(tfl.algorithms.AlgorithmSettings):
    NAME, SUMMARY, ONLY_UPDATES_LEAVE = "failing_algorithm", "fails", True

    refuses: bool = tfl.settings.switch(False, "Whether it refuses.")

    def build(self, context):
        if self.refuses:
            raise ValueError("there are no wards")
        return {}["no algorithm"]


@tfl.aggregators.register
@dataclasses.dataclass(frozen=True)
class Rule(tfl.aggregators.RuleSettings):
    NAME, SUMMARY = "failing_rule", "fails"
    PER_BYZANTINE, AT_LEAST, SOURCE = 0, 1, "no robust rule"

    def apply(self, rows, *, center=None):
        return {}["no aggregator"]


@tfl.privacy.register_mechanism
@dataclasses.dataclass(frozen=True)
class Mechanism(tfl.privacy.MechanismSettings):
    NAME, SUMMARY, SAMPLERS = "failing_mechanism", "fails", ("poisson",)

    def event(self, noise_multiplier, shape):
        return {}["no mechanism"]


def build(*, seed, how="fails"):
    if how == "refuses":
        raise ValueError("there are no wards")
    if how == "from_arrays":
        return tfl.tasks.from_arrays({}, model=lambda: None)
    return {}["no task"]


tfl.tasks.register("failing_task", build)
"""


@pytest.fixture(scope="module", autouse=True)
def failing_parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    (folder / "failing_parts.py").write_text(PARTS)
    sys.path.insert(0, str(folder))
    registry.load_plugin("failing_parts")
    yield
    sys.path.remove(str(folder))
    del sys.modules["failing_parts"]
    tfl.algorithms.ALGORITHMS.unregister("failing_algorithm")
    tfl.aggregators.AGGREGATORS.unregister("failing_rule")
    tfl.privacy.MECHANISMS.unregister("failing_mechanism")
    tfl.tasks.unregister("failing_task")


def training():
    return tfl.Training(rounds=1, tensorboard=False, progress_bar=False)


@pytest.mark.parametrize(
    ("kind", "method", "parts"),
    [
        ("task", "build", {"task": "failing_task"}),
        ("algorithm", "build", {"algorithm": "failing_algorithm"}),
        (
            "aggregator",
            "apply",
            {"aggregator": "failing_rule", "cohorts": tfl.Cohorts("full")},
        ),
        ("mechanism", "event", {}),
    ],
)
def test_the_error_names_the_part_and_its_line(kind, method, parts, tmp_path):
    name = "failing_rule" if kind == "aggregator" else f"failing_{kind}"
    if kind == "mechanism":
        parts = {"privacy": tfl.UserLevelPrivacy(name, noise_multiplier=1)}
    experiment = tfl.Experiment(**{"task": "heart", "training": training(), **parts})
    with pytest.raises(OwnPartError) as error:
        experiment.run(tmp_path / "run")
    lines = PARTS.splitlines()
    number = 1 + next(n for n, line in enumerate(lines) if f'"no {kind}"' in line)
    assert str(error.value) == (
        f"{kind}={name}: its code failed in {method}, line {number} of "
        f"failing_parts.py (KeyError: 'no {kind}')"
    )


def test_parts_of_one_file_are_named_together():
    parts = dict.fromkeys(("--algorithm=a", "--aggregator=b"), "failing_parts")
    named = errors.naming_own_parts({"--task=c": "json", **parts})
    with pytest.raises(OwnPartError) as error, named:
        sys.modules["failing_parts"].build(seed=0)
    said = error.value.for_command_line
    assert said.startswith("--algorithm=a or --aggregator=b: its code failed in build,")


def test_a_command_line_keeps_the_traceback(tmp_path, capsys):
    preset = cli.Preset("own", "A test.", cli.COMMON)
    arguments = ["--task=failing_task", f"--output_dir={tmp_path / 'run'}"]
    assert cli.execute(preset, ["own.py", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: --task=failing_task: its code failed in build, line")
    traceback = pathlib.Path(said.split("the traceback is in ")[1].strip())
    assert "KeyError: 'no task'" in traceback.read_text()
    traceback.unlink()


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"algorithm": "failing_algorithm", "refuses": True}, "algorithm=failing_algo"),
        ({"task_option": ("how=refuses",)}, "task=failing_task: there are no wards"),
        ({"task_option": ("how=from_arrays",)}, "task=failing_task: .*client"),
    ],
)
def test_a_refusal_of_the_part_stays_one(parts, said, tmp_path):
    task = {"task": "heart" if "algorithm" in parts else "failing_task"}
    flat = {**task, **training().flat(), **parts}
    with pytest.raises(tfl.SettingError, match=said):
        tfl.Experiment.from_flat(flat).run(tmp_path / "run")
