"""Tables of silos, by hand."""

import pandas as pd

from tfl_research.report import silos


def write_run(folder, accuracies, epsilons=None):
    folder.mkdir(parents=True)
    rows = [
        ("final", "eval", "A", 30, accuracies[0]),
        ("final", "eval", "B", 10, accuracies[1]),
        ("final", "held_out", "C", 10, 0.0),
        ("best", "eval", "A", 30, 1.0),
    ]
    columns = ["model", "split", "client_id", "examples", "accuracy"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "clients.csv", index=False)
    if epsilons:
        spent = [(r, c, r * e) for r in (1, 2) for c, e in zip("AB", epsilons)]
        pd.DataFrame(spent, columns=["round", "client_id", "epsilon"]).to_csv(
            folder / "client_epsilon.csv", index=False
        )
    return folder


def test_table_by_hand(tmp_path):
    runs = [
        ("fed_avg", write_run(tmp_path / "f0", (0.8, 0.6))),
        ("fed_avg", write_run(tmp_path / "f1", (0.9, 0.7))),
        ("private", write_run(tmp_path / "p", (0.7, 0.5), (0.61721, 1.0))),
        ("only A", write_run(tmp_path / "a", (0.75, 0.2))),
        ("only B", write_run(tmp_path / "b", (0.1, 0.55))),
    ]
    found = silos.by_silo(runs)
    assert silos.table(found, metric="accuracy").splitlines() == [
        "| method | A | B | mean of silos | by examples |",
        "| --- | --- | --- | --- | --- |",
        "| fed_avg | 0.850 | 0.650 | 0.750 | 0.800 |",
        "| private | 0.700 | 0.500 | 0.600 | 0.650 |",
        "| ε of its records | 1.235 | 2 |  | at most 2 |",
        "| each silo alone, at home | 0.750 | 0.550 | 0.650 | 0.700 |",
        "| the average silo alone | 0.425 | 0.375 | 0.400 | 0.412 |",
    ]
    silos.write(found, tmp_path / "silos.csv")
    assert len(pd.read_csv(tmp_path / "silos.csv")) == 10


def test_the_best_models_instead(tmp_path):
    found = silos.by_silo([("x", write_run(tmp_path / "x", (0.8, 0.6)))], model="best")
    assert found[["silo", "accuracy"]].to_numpy().tolist() == [["A", 1.0]]


def test_runs_that_diverged_or_withhold_are_named(tmp_path):
    rows = [{"stop_reason": r} for r in ("rounds", "diverged", "early_stopping")]
    folders = {}
    for name, split in (("a", "eval"), ("b", "eval"), ("c", "held_out")):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        (folders[name] / "clients.csv").write_text(
            f"model,split,client_id,examples,auc\nfinal,{split},north,3,0.5\n"
        )
    lost = "diverged, shown by their last model that was finite: b"
    withheld = (
        "left out, since they withhold the silos' metrics, which "
        "--release_exact=clients.csv gives out: c"
    )
    assert silos.remarks(folders, rows) == [lost, withheld]
    assert silos.remarks({"a": folders["a"]}, rows[:1]) == []
    (folders["a"] / "clients.csv").unlink()
    runs = list(folders.items())
    assert list(silos.by_silo(runs)["method"]) == ["b"]
