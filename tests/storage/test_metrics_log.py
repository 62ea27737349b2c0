"""metrics.csv, by hand-written rows."""

from __future__ import annotations

import collections
import math

import numpy as np
import pytest

from tfl_research.errors import UserError
from tfl_research.storage import MetricsLog
from tfl_research.storage.metrics.metrics_log import COLUMNS
from tfl_research.storage.metrics.round_metrics import round_row

WANTED = (
    *("round", "cohort_size", "train_loss", "train_accuracy", "eval_loss"),
    *("eval_accuracy", "clip_norm", "noise_multiplier", "epsilon", "delta"),
    "round_seconds",
)


def metrics(**aggregator):
    return collections.OrderedDict(
        train=collections.OrderedDict(
            loss=np.float32(0.1), accuracy=np.float32(math.nan)
        ),
        cohort=collections.OrderedDict(
            clients=np.int32(4), examples=np.float32(40), excluded=np.int32(1)
        ),
        aggregator=collections.OrderedDict(aggregator),
    )


def rows_of(path):
    lines = path.read_text().splitlines()
    header = lines[0].split(",")
    return [dict(zip(header, line.split(","))) for line in lines[1:]]


def test_has_the_columns_that_others_rely_on():
    assert set(WANTED) <= set(COLUMNS)
    assert COLUMNS[-1] == "round_seconds"


def test_round_row():
    row = round_row(
        3,
        4,
        metrics(
            clip_norm=np.float32(0.5),
            noise_stddev=np.float32(2.0),
            optimizer=collections.OrderedDict(client_learning_rate=0.25),
            vector=np.zeros(2),
        ),
        epsilon=1.5,
        delta=1e-4,
        noise_multiplier=1.25,
    )
    assert row == {
        "round": 3,
        "cohort_size": 4,
        "excluded_clients": 1,
        "examples": 40.0,
        "train_loss": pytest.approx(0.1),
        "train_accuracy": pytest.approx(math.nan, nan_ok=True),
        "clip_norm": 0.5,
        "noise_multiplier": 1.25,
        "epsilon": 1.5,
        "delta": 1e-4,
        "client_learning_rate": 0.25,
        "server_learning_rate": None,
        "aggregator_noise_stddev": 2.0,
        "aggregator_optimizer_client_learning_rate": 0.25,
    }


def test_a_metric_of_the_cohort_is_no_learning_rate():
    found = metrics(clip_norm=np.float32(0.5))
    found["train"]["client_learning_rate"] = np.float32(7)
    row = round_row(3, 4, found)
    assert row["client_learning_rate"] is None
    assert row["train_client_learning_rate"] == 7


def test_nothing_private(tmp_path):
    row = round_row(1, 4, metrics())
    log = MetricsLog(tmp_path / "m.csv")
    log.append({**row, "round_seconds": 0.5})
    log.close()
    (cells,) = rows_of(tmp_path / "m.csv")
    assert cells["epsilon"] == "inf"
    assert cells["delta"] == cells["noise_multiplier"] == cells["clip_norm"] == ""
    assert cells["eval_loss"] == ""


def is_shown(name):
    return name not in ("cohort_size", "train_loss", "round_seconds")


def test_withheld_columns_are_absent_also_after_a_resumption(tmp_path):
    path = tmp_path / "m.csv"
    log = MetricsLog(path, shows=is_shown)
    log.append({"round": 1, "epsilon": 0.5})
    log.append({"round": 2, "epsilon": 0.75, "aggregator_x": 3.0})
    log.close()
    header = path.read_text().splitlines()[0].split(",")
    assert header == [*filter(is_shown, COLUMNS), "aggregator_x"]
    assert tuple(header) == tuple(log.columns)
    log = MetricsLog(path, completed_rounds=1, shows=is_shown)
    log.append({"round": 2, "epsilon": 0.75, "aggregator_x": 3.0})
    log.close()
    assert [row["epsilon"] for row in rows_of(path)] == ["0.5", "0.75"]
    # A column that an earlier start wrote goes when it is withheld.
    log = MetricsLog(
        path, completed_rounds=2, shows=lambda n: is_shown(n) and n != "aggregator_x"
    )
    log.close()
    assert "aggregator_x" not in path.read_text()
    assert [row["epsilon"] for row in log.rows] == ["0.5", "0.75"]


def test_each_row_is_in_the_file_at_once(tmp_path):
    log = MetricsLog(tmp_path / "m.csv")
    for number in (1, 2):
        log.append({"round": number, "train_accuracy": math.nan, "round_seconds": 0.5})
        cells = rows_of(tmp_path / "m.csv")
        assert len(cells) == number
        assert cells[-1]["train_accuracy"] == "nan"
    log.close()


def test_float32_survive(tmp_path):
    value = float(np.nextafter(np.float32(0.1), np.float32(1)))
    log = MetricsLog(tmp_path / "m.csv")
    log.append({"round": 1, "train_loss": value})
    log.close()
    assert np.float32(rows_of(tmp_path / "m.csv")[0]["train_loss"]) == value


def test_new_columns_widen_before_the_time(tmp_path):
    log = MetricsLog(tmp_path / "m.csv")
    log.append({"round": 1, "round_seconds": 0.1})
    log.append({"round": 2, "aggregator_x": 3.0, "round_seconds": 0.1})
    log.append({"round": 3, "round_seconds": 0.1})
    log.close()
    cells = rows_of(tmp_path / "m.csv")
    assert [c["aggregator_x"] for c in cells] == ["", "3", ""]
    header = (tmp_path / "m.csv").read_text().splitlines()[0].split(",")
    assert header[-2:] == ["aggregator_x", "round_seconds"]


def test_resuming_drops_later_and_torn_rows(tmp_path):
    path = tmp_path / "m.csv"
    log = MetricsLog(path)
    for number in range(1, 6):
        log.append({"round": number, "extra": number / 3})
    log.close()
    with path.open("a") as file:
        file.write("6,3,")
    log = MetricsLog(path, completed_rounds=3)
    assert [row["round"] for row in log.rows] == ["1", "2", "3"]
    log.append({"round": 4, "extra": 4 / 3})
    log.append({"round": 5, "extra": 5 / 3})
    log.close()
    resumed = path.read_text()
    other = MetricsLog(tmp_path / "other.csv")
    for number in range(1, 6):
        other.append({"round": number, "extra": number / 3})
    other.close()
    assert resumed == (tmp_path / "other.csv").read_text()


def test_lost_rows_are_warned_of(tmp_path):
    with pytest.warns(UserWarning, match="lacks 2 of the 2 rounds"):
        MetricsLog(tmp_path / "m.csv", completed_rounds=2).close()


def test_a_file_without_our_columns_is_not_overwritten(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("round,loss\n1,2\n")
    with pytest.raises(UserError, match="lacks the column cohort_size"):
        MetricsLog(path)
    assert path.read_text() == "round,loss\n1,2\n"


def test_rows_that_are_lost_while_the_run_goes_on_are_named(tmp_path):
    """Nothing has the rows of a file and a copy that somebody emptied."""
    path, copy = tmp_path / "metrics.csv", tmp_path / "copy.jsonl"
    log = MetricsLog(path, copy=copy)
    for number in (1, 2, 3):
        log.append({"round": number, "train_loss": 0.5})
    path.write_text(path.read_text().rpartition("2,")[0])
    copy.write_text("")
    with pytest.warns(UserWarning, match="rounds") as warned:
        log.sync()
    texts = [str(one.message) for one in warned]
    assert any("was changed or removed while the run used it" in t for t in texts)
    assert any("the rows of rounds 2 to 3 are lost" in t for t in texts)
    assert [row["round"] for row in log.rows] == ["1"]
    log.close()
