"""computation.json: what a run computes is compared at every start."""

from __future__ import annotations

import dataclasses
import json
import os
import stat

import pytest

from tfl_research.errors import UserError
from tfl_research.storage import RunFolder
from tfl_research.storage.files import atomic
from tfl_research.storage.fingerprint import Fingerprint

DIGESTS = {
    "initial_state": "0a",
    "client_computation": "1b",
    "aggregation": "2c",
    "server_update": "3d",
}
PLAIN = Fingerprint(DIGESTS)
PRIVATE = Fingerprint(
    DIGESTS,
    data="d4",
    plan="e5",
    settings="f6",
    execution="a7",
    packages={"numpy": "1.25", "jax": None},
    sources={"tfl_research/a.py": "b8", "tfl_research/b.py": "c9"},
)
PLAN = {"noise_multiplier": 1.0}


def check(path, fingerprint=PLAIN, plan=None, charged=0):
    with RunFolder.open(path, {"task": "heart"}, plan=plan) as folder:
        folder.check_computation(fingerprint, charged_rounds=charged)
        return folder


def private(path, fingerprint=PRIVATE, charged=0):
    return check(path, fingerprint, PLAN, charged)


def refusal(path, fingerprint, plan=PLAN):
    with pytest.raises(UserError) as error:
        check(path, fingerprint, plan)
    assert "\n" not in str(error.value)
    return error.value.for_command_line


def test_it_is_written_once_and_compared_later(tmp_path):
    path = check(tmp_path).computation_path
    record = json.loads(path.read_text())
    assert record["format"] == 2
    assert record["fingerprint"]["computation"] == DIGESTS
    assert record["attempts"] == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.stat().st_mtime_ns
    check(tmp_path, Fingerprint(dict(reversed(DIGESTS.items()))))
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("initial_state", "the computation (initial state) differs"),
        ("client_computation", "the computation (client computation) differs"),
        ("aggregation", "the computation (aggregation) differs"),
        ("server_update", "the computation (server update) differs"),
    ],
)
@pytest.mark.parametrize("plan", [None, PLAN])
def test_the_part_that_differs_is_named(tmp_path, name, words, plan):
    first = PLAIN if plan is None else PRIVATE
    check(tmp_path, first, plan)
    text = refusal(
        tmp_path,
        dataclasses.replace(first, computation={**DIGESTS, name: "ff"}),
        plan,
    )
    assert words in text
    assert "choose another --output_dir" in text
    assert ("--recharge" in text) == (plan is not None)
    check(tmp_path, first, plan)


def test_several_parts_and_other_parts(tmp_path):
    check(tmp_path)
    changed = Fingerprint({**DIGESTS, "aggregation": "x", "initial_state": "y"})
    assert "(initial state, aggregation)" in refusal(tmp_path, changed, None)
    other = Fingerprint({"initial_state": "0a", "round": "1"})
    assert "server update, round)" in refusal(tmp_path, other, None)


@pytest.mark.parametrize(
    ("change", "words", "helps"),
    [
        ({"data": "x"}, "the data differs", True),
        (
            {"packages": {"numpy": "1.26", "jax": None}},
            "numpy 1.25 → 1.26 differs",
            True,
        ),
        (
            {"packages": {"numpy": "1.25", "jax": "0.4"}},
            "jax None → 0.4 differs",
            True,
        ),
        (
            {"sources": {"tfl_research/a.py": "b8", "mine.py": "1"}},
            "the source files mine.py, tfl_research/b.py differ",
            True,
        ),
        ({"plan": "x"}, "the privacy plan differs", False),
        ({"settings": "x", "data": "y"}, "the data, the settings differ", False),
        ({"execution": "x"}, "the settings of the runtime or XLA_FLAGS differ", False),
    ],
)
def test_everything_that_noise_covers(tmp_path, change, words, helps):
    private(tmp_path)
    now = dataclasses.replace(PRIVATE, **change)
    text = refusal(tmp_path, now)
    assert words in text
    assert ("--recharge" in text) == helps
    with RunFolder.open(tmp_path, {"task": "heart"}, plan=PLAN) as folder:
        if helps:
            assert folder.computation.changes(now, has_rounds=True)
        else:
            with pytest.raises(UserError, match="not charged; restore it"):
                folder.computation.changes(now, has_rounds=True)


def test_the_key_depends_on_all_but_the_runtime(tmp_path):
    seed = private(tmp_path / "first").run_seed
    keys = {}
    for name, change in {
        "same": {},
        "runtime": {"execution": "x"},
        "data": {"data": "x"},
        "plan": {"plan": "x"},
        "settings": {"settings": "x"},
        "packages": {"packages": {}},
        "sources": {"sources": {}},
        "computation": {"computation": {}},
    }.items():
        now = dataclasses.replace(PRIVATE, **change)
        keys[name] = private(tmp_path / name, now).attempts.key(seed)
    assert keys["same"] == keys["runtime"]
    assert len(set(keys.values())) == len(keys) - 1
    assert all(0 <= key < 2**128 for key in keys.values())
    # Another run seed, another key.
    assert private(tmp_path / "first").attempts.key(seed ^ 1) != keys["same"]


def test_a_new_attempt(tmp_path):
    folder = private(tmp_path)
    now = dataclasses.replace(PRIVATE, data="x")
    first = folder.attempts
    second = folder.computation.begin_attempt(4, first.name, now)
    again = private(tmp_path, now).attempts
    assert again == second
    assert [one.after for one in again.all] == [0, 4]
    keys = {attempts.key(folder.run_seed) for attempts in (first, second)}
    third = folder.computation.begin_attempt(4, first.name, now)
    keys.add(third.key(folder.run_seed))
    assert len(keys) == 3
    assert second.accepts(4, first.name)
    assert second.accepts(6, second.name)
    # Rounds 5 and 6 of the first attempt are none of the second's.
    assert not second.accepts(6, first.name)
    assert not second.accepts(2, first.name)
    assert not second.accepts(4, "")
    later = second.later_seeds(folder.run_seed)
    assert later == [(4, second.key(folder.run_seed))]
    assert first.later_seeds(folder.run_seed) == []


def test_the_file_is_durable_before_the_run_goes_on(tmp_path, monkeypatch):
    written = []
    replace = os.replace

    def replaced(source, target):
        replace(source, target)
        written.append(os.path.basename(target))

    monkeypatch.setattr(atomic.os, "replace", replaced)
    check(tmp_path)
    assert written[-1] == "computation.json"


def test_a_run_with_rounds_that_lost_it_is_refused(tmp_path):
    path = check(tmp_path).computation_path
    path.unlink()
    # Killed before its first round: nothing was computed yet.
    check(tmp_path)
    path.unlink()
    (tmp_path / "metrics.csv").write_text("round\n")
    with pytest.raises(UserError, match=r"computation\.json is missing"):
        check(tmp_path)
    assert not path.exists()


def test_a_charged_round_is_a_round(tmp_path):
    path = private(tmp_path).computation_path
    path.unlink()
    with pytest.raises(UserError, match=r"computation\.json is missing"):
        private(tmp_path, charged=1)
    private(tmp_path)


@pytest.mark.parametrize("content", ["", "[1]", "{}"])
def test_a_damaged_file_is_one_line(tmp_path, content):
    check(tmp_path).computation_path.write_text(content)
    assert "is damaged" in refusal(tmp_path, PLAIN, None)


def test_an_edited_file_is_one_line(tmp_path):
    path = private(tmp_path).computation_path
    record = json.loads(path.read_text())
    record["fingerprint"]["data"] = "x"
    path.write_text(json.dumps(record))
    text = refusal(tmp_path, dataclasses.replace(PRIVATE, data="x"))
    assert "its seal does not match" in text
    assert "--recharge" in text


@pytest.mark.parametrize("version", [1, 3])
def test_another_format_is_refused(tmp_path, version):
    path = check(tmp_path).computation_path
    path.write_text(json.dumps({"format": version, "digests": DIGESTS}))
    assert f"has format {version}, expected 2" in refusal(tmp_path, PLAIN, None)
