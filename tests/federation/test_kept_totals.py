"""Totals of rounds that a coordinator keeps until no checkpoint needs them."""

import numpy as np
import pytest

from tfl_research.errors import UserError
from tfl_research.federation.kept_totals import KeptTotals, Total


def total(value, *client_ids):
    return Total(client_ids, [np.array([value, 2.0]), np.array(3)])


def test_a_kept_total_is_read_again(tmp_path):
    kept = KeptTotals(tmp_path / "totals", rounds=3)
    assert kept.read(1, ["a", "b"]) is None
    kept.write(1, ["a", "b"], total(1.0, "b"))
    kept.close()
    again = KeptTotals(tmp_path / "totals", rounds=3).read(1, ["a", "b"])
    assert again.client_ids == ("b",)
    np.testing.assert_array_equal(again.tensors[0], [1.0, 2.0])
    assert again.tensors[1] == 3


def test_totals_are_kept_for_so_many_rounds_and_for_the_owner_alone(tmp_path):
    kept = KeptTotals(tmp_path / "totals", rounds=2)
    for number in range(1, 6):
        kept.write(number, ["a"], total(float(number), "a"))
    files = sorted(path.name for path in (tmp_path / "totals").glob("round_*"))
    assert files == ["round_00000004.npz", "round_00000005.npz"]
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "totals").glob("r*")}
    assert modes == {0o600}


def test_another_cohort_and_a_damaged_file_are_refused(tmp_path):
    kept = KeptTotals(tmp_path / "totals", rounds=2)
    kept.write(1, ["a"], total(1.0, "a"))
    with pytest.raises(UserError, match="other clients"):
        kept.read(1, ["b"])
    path = tmp_path / "totals" / "round_00000001.npz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"round_00000001\.npz: cannot be read"):
        kept.read(1, ["a"])


def test_the_last_round_in_which_each_client_counted(tmp_path):
    kept = KeptTotals(tmp_path / "totals", rounds=2)
    kept.note(1, ["a", "b"])
    kept.note(2, ["a"])
    kept.note(3, [])
    assert kept.state_rounds(["a", "b", "c"]) == {"a": 2, "b": 1, "c": 0}
    assert kept.state_rounds(["a", "b"], before=2) == {"a": 1, "b": 1}
    # The run has gone back to round 1.
    kept.note(2, ["b"])
    assert kept.state_rounds(["a", "b"], before=4) == {"a": 1, "b": 2}
    kept.go_back(1)
    assert kept.state_rounds(["a", "b"]) == {"a": 1, "b": 1}
