"""The code and the commands of README and docs/ do what they say."""

from __future__ import annotations

import importlib
import json
import pathlib
import re
import sys

import dp_accounting
import numpy as np
import pyarrow as pa
import pytest
from document_pages import PAGES, ROOT, code, executed, experiments
from pyarrow import ipc

import tfl_research as tfl
from tfl_research import cli
from tfl_research.experiment import Experiment, sweeps


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_experiment_of_ones_own(here):
    text = code("local_gaussian")
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) <= 25
    names = executed(text, here)
    result = names["result"]
    assert len(result.metrics) == 10
    assert 7.9 < result.epsilon <= 8
    assert result.metrics["eval_accuracy"].iloc[-1] > 0.85
    files = {path.name for path in (here / "results" / "mine").iterdir()}
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


def test_data_of_ones_own(here):
    saved_reviews(here / "reviews")
    names = executed(code("from_dataframe"), here)
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


def test_a_loss_of_ones_own(here):
    """Cross-entropy of probabilities, in which class 0 counts twice."""
    objective = executed(code("def my_objective"), here)["my_objective"]()
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25]], np.float32)
    losses = objective.example_losses(np.array([0, 1]), probabilities)
    np.testing.assert_allclose(losses, [2 * np.log(2), np.log(4)], rtol=1e-5)
    sums = objective.example_sums(np.array([0, 1]), np.eye(4, dtype=np.float32)[:2])
    metrics = objective.finalize({name: np.sum(sums[name], axis=0) for name in sums})
    assert {"accuracy", "top_3"} <= set(metrics)


def test_a_tff_process_of_ones_own(here):
    text = code("ProcessExperiment")
    loop = text[text.index("result = ") :].splitlines()
    assert len(loop) <= 10
    result = executed(text, here)["result"]
    assert result.metrics["train_loss"].notna().sum() == 5
    untrained = result.summary["untrained"]["eval_loss"]
    assert result.metrics["eval_loss"].iloc[-1] < untrained
    assert result.weights.trainable[0].shape == (784, 128)


def test_an_algorithm_of_ones_own(here):
    try:
        names = executed(code("HeavyBall"), here)
    finally:
        tfl.algorithms.ALGORITHMS.unregister("heavy_ball")
    losses = names["result"].metrics["train_loss"]
    assert len(losses) == 5
    assert losses.iloc[-1] < losses.iloc[0] < 0.7


def test_privacy_from_python(here):
    experiment = executed(code("private.check()"), here)["private"]
    assert experiment.privacy.target_epsilon == 8
    assert not (here / "results").exists()


def test_a_mechanism_of_ones_own(here):
    """Three Poisson-sampled Gaussian rounds have this ε."""
    try:
        names = executed(code("PlainGaussian"), here)
    finally:
        tfl.privacy.MECHANISMS.unregister("plain_gaussian")
    accountant = dp_accounting.pld.PLDAccountant()
    sampled = dp_accounting.PoissonSampledDpEvent(0.2, dp_accounting.GaussianDpEvent(1))
    accountant.compose(sampled, 3)
    expected = accountant.get_epsilon(0.001)
    assert names["result"].epsilon == pytest.approx(expected, rel=1e-3)


def test_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_the_tree_has_what_the_table_lists():
    rows = re.findall(r"^\| (`[a-z_/`, ]+/`) \|", PAGES["docs/design.md"], re.MULTILINE)
    places = [place for row in rows for place in re.findall(r"`([a-z_/]+/)`", row)]
    assert len(places) > 10
    for place in places:
        assert (ROOT / place).is_dir(), place
    packages = {
        path.parent.name for path in (ROOT / "tfl_research").glob("*/__init__.py")
    }
    listed = {pathlib.PurePath(place).name for place in places}
    assert packages <= listed | {"settings"}, packages - listed


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page):
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        there = (folder / path).resolve() if path else ROOT / page
        assert there.exists(), f"{page} links to {target}"
        if heading:
            assert heading in anchors(there), f"{page} links to {target}"


def anchors(path):
    """The anchors of a page's headings, as repository hosts make them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles
    }


def test_every_page_is_in_the_table_of_contents():
    index = PAGES["docs/index.md"].splitlines()
    for page in PAGES:
        name = pathlib.PurePath(page).stem
        if page.startswith("docs/") and name != "index":
            assert name in index, f"docs/index.md lacks {name}"


class CheckedError(BaseException):
    """An experiment has passed all checks, and would run now.

    No Exception: the handler of last resort would make one line of it.
    """


@pytest.fixture
def checked(monkeypatch):
    """Gives a command line to its binary, which ends where the rounds would begin."""

    def run_experiment(experiment, *_, **__):
        experiment.check()
        raise CheckedError

    def run_sweep(sweep, *_, **__):
        for point in (sweep.points[0], sweep.points[-1]):
            point.experiment.check()
        raise CheckedError

    def check(program, flags):
        binary = importlib.import_module(pathlib.PurePath(program).stem)
        with pytest.raises(CheckedError):
            cli.execute(binary.PRESET, [program, *flags])

    monkeypatch.setattr(Experiment, "run", run_experiment)
    monkeypatch.setattr(sweeps.Sweep, "run", run_sweep)
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    before = set(sys.modules)
    yield check
    for path in (ROOT / "experiments").glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_commands_are_taken(page, checked):
    for program, *flags in experiments(page):
        if [flag.split("=")[0] for flag in flags] == ["--flagfile", "--output_dir"]:
            # `test_flag_files_are_taken` gives the file to the program that it names.
            path = ROOT / flags[0].split("=")[1]
            assert program in path.read_text(encoding="utf-8")
        elif "--help" not in flags and not needs_a_file(flags):
            checked(program, flags)


def test_commands_are_found():
    found = [command for page in PAGES for command in experiments(page)]
    assert len(found) > 35
    assert ["experiments/fed_avg.py", "--task=heart", "--rounds=20"] in [
        command[:3] for command in found
    ]


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "experiments/configs").glob("*.flags")),
    ids=lambda path: path.stem,
)
def test_flag_files_are_taken(path, checked):
    text = path.read_text(encoding="utf-8")
    (program,) = set(re.findall(r"experiments/\w+\.py", text))
    checked(program, [f"--flagfile={path}", "--output_dir=unused"])


def needs_a_file(flags):
    """Whether a command names files that the reader is to have."""
    return any(
        flag.startswith(("--plugin=", "--federation=", "--task=csv")) for flag in flags
    )
