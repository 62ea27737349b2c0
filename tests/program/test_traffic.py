"""Bytes of a round, by hand."""

import fake_experiment as fake
import pandas as pd

from tfl_research.program.each_round.one_round import traffic


def test_by_hand():
    assert traffic({"cohort_size": 3}, (10, 4)) == {"bytes_down": 30, "bytes_up": 12}
    assert traffic({"cohort_size": 0}, (10, 4)) == {"bytes_down": 0, "bytes_up": 0}
    # Five were asked and two are down; an abandoned round was sent all the same.
    down = {"cohort_size": 0, "selected": 5, "dropped_out": 2, "abandoned": 1}
    assert traffic(down, (10, 4)) == {"bytes_down": 50, "bytes_up": 12}
    assert traffic({"cohort_size": 3, "bytes_down": 7}, (10, 4)) == {}


def test_every_round_of_a_run_has_them(tmp_path):
    fake.run(tmp_path / "run", message_bytes=(20, 6), config=fake.config(rounds=3))
    rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert rows["cohort_size"][2] == 0
    assert (rows["bytes_down"] == 20 * rows["cohort_size"]).all()
    assert (rows["bytes_up"] == 6 * rows["cohort_size"]).all()
    fake.run(tmp_path / "without", config=fake.config(rounds=1))
    assert "bytes_up" not in pd.read_csv(tmp_path / "without" / "metrics.csv")
