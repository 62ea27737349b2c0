"""computation.json: what a run computes is compared at every start."""

from __future__ import annotations

import json
import os
import stat

import pytest

from tfl_research.errors import UserError
from tfl_research.storage import RunFolder, atomic

DIGESTS = {
    "initial_state": "0a",
    "client_computation": "1b",
    "aggregation": "2c",
    "server_update": "3d",
}


def check(path, digests=DIGESTS):
    with RunFolder.open(path, {"task": "heart"}) as folder:
        folder.check_computation(digests)
        return folder


def test_it_is_written_once_and_compared_later(tmp_path):
    path = check(tmp_path).computation_path
    assert json.loads(path.read_text()) == {"format": 1, "digests": DIGESTS}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.stat().st_mtime_ns
    check(tmp_path, dict(reversed(DIGESTS.items())))
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("initial_state", "the initial state differs"),
        ("client_computation", "the client computation differs"),
        ("aggregation", "the aggregation differs"),
        ("server_update", "the server update differs"),
    ],
)
def test_the_part_that_differs_is_named(tmp_path, name, words):
    check(tmp_path)
    with pytest.raises(UserError) as error:
        check(tmp_path, {**DIGESTS, name: "ff"})
    text = str(error.value)
    assert words in text
    assert "choose another output_dir" in text
    assert "\n" not in text
    check(tmp_path)


def test_several_parts_and_other_parts(tmp_path):
    check(tmp_path)
    changed = {**DIGESTS, "aggregation": "x", "initial_state": "y"}
    with pytest.raises(UserError, match="the initial state, aggregation differ;"):
        check(tmp_path, changed)
    with pytest.raises(UserError, match="server update, round differ;"):
        check(tmp_path, {"initial_state": "0a", "round": "1"})


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


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"format": 1, "digests": 3}'])
def test_a_damaged_file_is_one_line(tmp_path, content):
    check(tmp_path).computation_path.write_text(content)
    with pytest.raises(UserError, match="is damaged") as error:
        check(tmp_path)
    assert "\n" not in str(error.value)


def test_a_later_format_is_refused(tmp_path):
    path = check(tmp_path).computation_path
    path.write_text(json.dumps({"format": 2, "digests": DIGESTS}))
    with pytest.raises(UserError, match="has format 2, expected 1"):
        check(tmp_path)
