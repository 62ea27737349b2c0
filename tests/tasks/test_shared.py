"""Tasks are shared by the points of a sweep, and by nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfl_research import tasks
from tfl_research.data import ClientData
from tfl_research.errors import UserError
from tfl_research.tasks import shared
from tfl_research.tasks.built_in import heart
from tfl_research.tasks.fit_checks import fitting, heads


@pytest.fixture
def read(monkeypatch):
    """How often the patients were read."""
    count = []
    patients = heart.read_patients
    monkeypatch.setattr(heart, "read_patients", lambda: count.append(1) or patients())
    return count


def test_equal_tasks_of_a_sweep_are_read_once(read):
    with shared.within_sweep():
        first = shared.get("heart", seed=1)
        again = shared.get("heart", seed=1)
        assert len(read) == 1
        assert first.train.load is again.train.load
        assert again.has_data_of_recipe
        # Each of these is another task, also 1 and True.
        for options in ({"seed": 2}, {"model": "mlp"}, {"test_fraction": 0.5}):
            shared.get("heart", **{"seed": 1, **options})
        assert len(read) == 4


def test_equal_numbers_of_other_types_are_other_options():
    keys = [shared._key("heart", 0, {"value": v}) for v in (1, True, 1.0, "1", None)]
    assert len(set(keys)) == len(keys)


def test_nothing_is_kept_outside_of_a_sweep(read):
    shared.get("heart")
    shared.get("heart")
    assert len(read) == 2
    with shared.within_sweep():
        shared.get("heart")
        with shared.within_sweep():
            shared.get("heart")
        shared.get("heart")
        assert len(read) == 3
    assert not shared._tasks
    shared.get("heart")
    assert len(read) == 4


def test_few_tasks_are_kept(read):
    with shared.within_sweep():
        for seed in (1, 2, 3, 4, 5, 1):
            shared.get("heart", seed=seed)
        assert len(read) == 6
        shared.get("heart", seed=5)
        assert len(read) == 6


def test_a_users_builder_and_files_are_read_each_time(tmp_path):
    built = []

    def build(*, seed: int = 0, data_dir: str = ""):
        built.append(data_dir)
        return tasks.get("heart", seed=seed)

    tasks.register("mine", build)
    try:
        with shared.within_sweep():
            shared.get("mine")
            shared.get("mine")
            assert len(built) == 2
        assert shared._key("csv", 0, {"data_dir": str(tmp_path)}) is None
        assert shared._key("heart", 0, {"held_out": ("Hungary",)}) is None
        assert shared._key("heart", 0, {"held_out": "Hungary"}) is not None
    finally:
        tasks.unregister("mine")
    with shared.within_sweep(), pytest.raises(ValueError, match="no_such_task"):
        shared.get("no_such_task")


def test_heads_are_checked_once_and_clients_each_time(monkeypatch):
    checked = []
    check = heads.checked
    monkeypatch.setattr(
        heads, "checked", lambda *given: checked.append(1) or check(*given)
    )
    seen = []
    check_client = fitting.Fitting.check

    def counting(self, client_id, *given):
        seen.append(client_id)
        return check_client(self, client_id, *given)

    monkeypatch.setattr(fitting.Fitting, "check", counting)
    with shared.within_sweep():
        shared.get("heart").functional_model()
        before = len(seen)
        task = shared.get("heart")
        task.functional_model()
        assert (len(checked), len(seen)) == (1, 2 * before)
        assert before > 4
        # A client's labels are checked by the rules that were found before.
        hungary = dict(task.train.load("Hungary"))
        hungary["y"] = np.full_like(hungary["y"], 7)
        with pytest.raises(UserError, match="'Somewhere', y row 0"):
            task.fitting.check("Somewhere", hungary)
    shared.get("heart").functional_model()
    assert len(checked) == 2


def test_heads_are_checked_anew_with_arrays_of_another_type(monkeypatch):
    checked = []
    check = heads.checked
    monkeypatch.setattr(
        heads, "checked", lambda *given: checked.append(1) or check(*given)
    )
    task = tasks.get("heart")
    task.functional_model()
    clients = {name: dict(task.train.load(name)) for name in task.train.client_ids}
    for count, dtype in ((1, np.int32), (2, np.int64), (2, np.int64)):
        for examples in clients.values():
            examples["y"] = examples["y"].astype(dtype)
        other = dataclasses.replace(
            task, train=ClientData.from_arrays(clients), fitting=task.fitting.again()
        )
        other.functional_model()
        assert len(checked) == count
