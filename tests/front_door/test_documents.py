"""The code and the commands of README and docs/ do what they say."""

from __future__ import annotations

import importlib
import json
import pathlib
import re
import runpy
import shlex
import sys

import dp_accounting
import pyarrow as pa
import pytest
from pyarrow import ipc

import tfl_research as tfl
from tfl_research import cli
from tfl_research.experiment import Experiment, sweeps

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}


@pytest.fixture(scope="module")
def blocks():
    return [
        block
        for text in PAGES.values()
        for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    ]


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


def test_an_algorithm_of_ones_own(blocks, tmp_path, monkeypatch):
    try:
        names = executed(block(blocks, "HeavyBall"), tmp_path, monkeypatch)
    finally:
        tfl.algorithms.ALGORITHMS.unregister("heavy_ball")
    losses = names["result"].metrics["train_loss"]
    assert len(losses) == 5
    assert losses.iloc[-1] < losses.iloc[0] < 0.7


def test_a_mechanism_of_ones_own(blocks, tmp_path, monkeypatch):
    """Three Poisson-sampled Gaussian rounds have this ε."""
    try:
        names = executed(block(blocks, "PlainGaussian"), tmp_path, monkeypatch)
    finally:
        tfl.privacy.MECHANISMS.unregister("plain_gaussian")
    accountant = dp_accounting.pld.PLDAccountant()
    sampled = dp_accounting.PoissonSampledDpEvent(0.2, dp_accounting.GaussianDpEvent(1))
    accountant.compose(sampled, 3)
    expected = accountant.get_epsilon(0.001)
    assert names["result"].epsilon == pytest.approx(expected, rel=1e-3)


def test_two_runs_share_a_budget(blocks, tmp_path, monkeypatch):
    names = executed(block(blocks, "shared.jsonl"), tmp_path, monkeypatch)
    accountant = dp_accounting.pld.PLDAccountant()
    sampled = dp_accounting.PoissonSampledDpEvent(0.2, dp_accounting.GaussianDpEvent(1))
    accountant.compose(sampled, 6)
    expected = accountant.get_epsilon(0.001)
    assert names["together"] == pytest.approx(expected, rel=1e-3)
    assert names["first"].epsilon == names["second"].epsilon < names["together"]


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


def commands(text):
    """Commands of a page that start an experiment, as words."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    for block in [block for language, block in fenced if not language]:
        names = {}
        for line in block.replace("\\\n", " ").splitlines():
            line = line.split("   #")[0]
            given = re.match(r'([A-Z])="(.*)"$', line)
            for name, value in names.items():
                line = line.replace(f"${name}", value)
            if given:
                names[given[1]] = given[2]
            elif line.startswith("scripts/run experiments/") and "..." not in line:
                yield shlex.split(line)[1:]


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
    for program, *flags in commands(PAGES[page]):
        if [flag.split("=")[0] for flag in flags] == ["--flagfile", "--output_dir"]:
            # `test_flag_files_are_taken` gives the file to the program that it names.
            path = ROOT / flags[0].split("=")[1]
            assert program in path.read_text(encoding="utf-8")
        elif "--help" not in flags and not needs_a_file(flags):
            checked(program, flags)


def test_commands_are_found():
    found = [command for text in PAGES.values() for command in commands(text)]
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
