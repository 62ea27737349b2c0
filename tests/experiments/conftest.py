"""The experiment binaries as modules."""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import pathlib
import sys
from collections.abc import Sequence
from types import ModuleType

import listening
import pytest

from tfl_research import cli
from tfl_research.storage import provenance

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"


# As for a binary, whose own folder is where it looks for the others.
sys.path.insert(0, str(EXPERIMENTS))


@pytest.fixture(scope="module", autouse=True)
def no_listener_off_loopback():
    """Whatever the binaries of these tests run, nobody reaches it from outside."""
    with listening.Watch() as watch:
        yield
    assert watch.found == set()


@pytest.fixture(scope="module", autouse=True)
def noise_of_every_version():
    """The noise of a chosen run seed, which else changes with every edit of a file.

    Tests look at samples of noise, and a sample can be far out.
    """
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(provenance, "source_digests", lambda modules=(): {})
        yield


@pytest.fixture(scope="session")
def experiments() -> dict[str, ModuleType]:
    names = sorted(path.stem for path in EXPERIMENTS.glob("*.py"))
    return {name: importlib.import_module(name) for name in names}


@pytest.fixture(scope="session")
def execute(experiments):
    """(experiment, flags) -> (exit code, standard output, standard error)."""

    def run(name: str, flags: Sequence[str]) -> tuple[int, str, str]:
        module = experiments[name]
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            path = str(EXPERIMENTS / f"{name}.py")
            code = cli.execute(module.PRESET, [path, *flags])
        return code, output.getvalue(), errors.getvalue()

    return run


@pytest.fixture(scope="session")
def refused(execute):
    """(experiment, folder, flags, message): one error line, and no such folder."""

    def run(
        name: str, folder: pathlib.Path, flags: Sequence[str], message: str
    ) -> None:
        code, _, errors = execute(
            name, ["--task=heart", f"--output_dir={folder}", *flags]
        )
        assert code == 2
        assert message in errors
        assert errors.count("\n") == 1
        assert not folder.exists()

    return run


@pytest.fixture(scope="session")
def train(execute):
    """(experiment, folder, flags) -> rows of metrics.csv; quiet two-round runs."""

    def run(name: str, folder: pathlib.Path, *flags: str) -> list[dict[str, str]]:
        # One execution, whose results are the same to the bit whenever it runs.
        common = ["--task=heart", "--rounds=2", "--client_execution=folded_graph"]
        common += ["--notensorboard"]
        code, _, errors = execute(name, [*common, f"--output_dir={folder}", *flags])
        assert code == 0, errors
        with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return run
