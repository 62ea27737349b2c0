"""A coordinator cannot choose what a site reads."""

from __future__ import annotations

import shutil

import pytest
from federations import written

import tfl_research as tfl
from tfl_research.experiment.at_sites.site import SiteWork
from tfl_research.experiment.federated import shared
from tfl_research.federation.wire.handler import Refused
from tfl_research.federation.wire.messages import Message


@pytest.fixture
def hello(tmp_path):
    """Asks a site without data_dir in site.toml, with other settings."""
    federation = written(tmp_path)
    path = tmp_path / "sites/north/site.toml"
    path.write_text(path.read_text().replace('data_dir = "data"\n', ""))
    work = SiteWork(federation.site_file("north"), federation.lines.append)
    settings = shared.settings(federation.experiment())

    def ask(**changes):
        header = {
            "run": "question-1",
            "round": 0,
            "completed": 0,
            "experiment": {**settings, **changes},
            shared.SOURCES: shared.source_digest(),
        }
        return work.handle(Message("hello", header))

    ask.federation = federation
    return ask


def test_a_folder_of_the_sites_machine(hello, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "sites/west/data", other)
    for name in ("data_dir", "cache_dir"):
        with pytest.raises(Refused, match=f"task_option={name} names a file or folder"):
            hello(task_option=["test_fraction=0.5", f"{name}={other}"])
    with pytest.raises(Refused, match="data_dir is a setting of this machine"):
        hello(data_dir=str(other))


def test_site_toml_names_the_folder(hello, tmp_path):
    path = tmp_path / "sites/north/site.toml"
    path.write_text(path.read_text() + 'data_dir = "data"\n')
    federation = hello.federation
    work = SiteWork(federation.site_file("north"), federation.lines.append)
    header = {
        "run": "question-1",
        "experiment": shared.settings(federation.experiment()),
        shared.SOURCES: shared.source_digest(),
    }
    assert work.handle(Message("hello", header)).texts("clients") == ["north"]


def test_an_honest_coordinator_keeps_its_own_paths():
    """Its own folder of the schema is no business of the sites."""
    experiment = tfl.Experiment(
        tfl.TaskChoice(
            "csv", label_column="y", task_option=("data_dir=/srv", "test_fraction=0.5")
        )
    )
    assert shared.settings(experiment)["task_option"] == ["test_fraction=0.5"]
    experiment = tfl.Experiment(
        tfl.TaskChoice("csv", label_column="y", task_option=("data_dir=/srv",))
    )
    assert "task_option" not in shared.settings(experiment)


@pytest.mark.parametrize(
    ("name", "is_path"),
    [
        ("data_dir", True),
        ("dir", True),
        ("schema_file", True),
        ("model_path", True),
        ("folder", True),
        ("direction", False),
        ("profile", False),
        ("test_fraction", False),
    ],
)
def test_names_of_path_options(name, is_path):
    assert (shared.path_options([f"{name}=x"]) == [name]) is is_path
