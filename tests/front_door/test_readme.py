"""README's code does what it says."""

from __future__ import annotations

import json
import pathlib
import re
import runpy

import pyarrow as pa
import pytest
from pyarrow import ipc

import tfl_research as tfl

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def blocks():
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def block(blocks, word):
    """The one block with a word in it."""
    (found,) = [each for each in blocks if word in each]
    return found


def executed(code, folder, monkeypatch):
    """The names that a block leaves, run as a file in a folder of its own."""
    monkeypatch.chdir(folder)
    path = folder / "mine.py"
    path.write_text(code, encoding="utf-8")
    return runpy.run_path(str(path), run_name="__main__")


def test_an_experiment_of_ones_own(blocks, tmp_path, monkeypatch):
    code = block(blocks, "local_gaussian")
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 25
    names = executed(code, tmp_path, monkeypatch)
    result = names["result"]
    assert len(result.metrics) == 10
    assert 7.9 < result.epsilon <= 8
    assert result.metrics["eval_accuracy"].iloc[-1] > 0.85
    files = {path.name for path in (tmp_path / "results" / "mine").iterdir()}
    assert files >= {
        "checkpoints",
        "columns.json",
        "computation.json",
        "export",
        "hparams.json",
        "ledger.jsonl",
        "logdir",
        "metrics.csv",
        "privacy.txt",
        "report.html",
        "run_seed",
        "runtime.json",
        "summary.json",
    }


def saved_reviews(folder):
    """The files that Hugging Face's `save_to_disk` writes."""
    rows = pa.table({"user": ["u", "v"], "input_ids": [[5, 6], [7]], "label": [0, 1]})
    folder.mkdir()
    with ipc.new_stream(folder / "data-00000-of-00001.arrow", rows.schema) as file:
        file.write_table(rows)
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))
    (folder / "dataset_info.json").write_text("{}")


def test_data_of_ones_own(blocks, tmp_path, monkeypatch):
    saved_reviews(tmp_path / "reviews")
    names = executed(block(blocks, "from_dataframe"), tmp_path, monkeypatch)
    sizes = {
        name: sum(
            split.num_examples(client_id)
            for split in (names[name].train, names[name].test)
            for client_id in split.client_ids
        )
        for name in ("arrays", "frame", "declared", "parquet", "datasets", "from_tff")
    }
    assert sizes == {
        "arrays": 9,
        "frame": 4,
        "declared": 4,
        "parquet": 4,
        "datasets": 9,
        "from_tff": 9,
    }
    assert names["tokens"].train.specs["x"].shape == (20,)
    assert names["declared"].train.specs["x"].shape == (3,)
    assert names["reviews"].train.client_ids == ("u", "v")
    assert names["reviews"].train.specs["x/ids"].shape == (128,)
    for name in (*sizes, "tokens", "reviews"):
        assert names[name].build_model().count_params() > 0
        assert names[name].pooled == ()


def test_a_tff_process_of_ones_own(blocks, tmp_path, monkeypatch):
    code = block(blocks, "ProcessExperiment")
    loop = code[code.index("result = ") :].splitlines()
    assert len(loop) <= 10
    result = executed(code, tmp_path, monkeypatch)["result"]
    assert result.metrics["train_loss"].notna().sum() == 5
    untrained = result.summary["untrained"]["eval_loss"]
    assert result.metrics["eval_loss"].iloc[-1] < untrained
    assert result.weights.trainable[0].shape == (784, 128)


def test_a_rule_of_ones_own(blocks, tmp_path, monkeypatch):
    try:
        code = block(blocks, "Midrange")
        result = executed(code, tmp_path, monkeypatch)["result"]
    finally:
        tfl.aggregators.AGGREGATORS.unregister("midrange")
    losses = result.metrics["train_loss"]
    assert len(losses) == 5
    assert losses.iloc[-1] < losses.iloc[0] < 0.7


def test_the_tree_has_what_the_table_lists():
    places = re.findall(r"^\| `([a-z_/]+/)` \|", README, flags=re.MULTILINE)
    assert len(places) > 10
    for place in places:
        assert (ROOT / place).is_dir(), place
    for script in ("run", "test", "describe_task", "update_lock", "test_install"):
        assert (ROOT / "scripts" / script).is_file()
