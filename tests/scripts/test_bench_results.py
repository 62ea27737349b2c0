"""Results of scripts/bench in the file of --output, which a later run goes on with."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmark import __main__ as bench, held, scale_out, turns  # noqa: E402
from benchmark.contender import ContenderFailed  # noqa: E402

WANTED: dict[str, dict[str, int]] = {
    "W1": {"turns": 7},
    "scale_out/W1/shipped": {},
    "scale_out/W1/folder": {},
}


class TestResults:
    """A run that is started again with its --output goes on where it was."""

    @staticmethod
    def filled(path):
        results = held.Results(path, WANTED)
        results.add("scale_out/W1/folder", {"workers": 2})
        results.add("W1", {"in_process_seconds": 1.0})
        return results

    def test_are_taken_from_the_file(self, tmp_path):
        path = tmp_path / "b.json"
        self.filled(path)
        again = held.Results(path, {"W2": {}, **WANTED})
        assert [name for name in WANTED if name in again] == [
            "W1",
            "scale_out/W1/folder",
        ]
        again.add("W2", {})
        written = json.loads(path.read_text())
        # In the order in which they were asked for.
        assert list(written) == ["W2", "W1", "scale_out", "measured_by"]
        assert written["scale_out"] == {"W1": {"folder": {"workers": 2}}}
        assert again.values() == {k: written[k] for k in ("W2", "W1", "scale_out")}
        assert list(tmp_path.iterdir()) == [path]

    def test_by_other_flags_or_other_code_are_not(self, tmp_path, monkeypatch):
        path = tmp_path / "b.json"
        self.filled(path)
        assert "W1" not in held.Results(path, {"W1": {"turns": 8}})
        assert "W1" in held.Results(path, {"W1": {"turns": 7}})
        monkeypatch.setattr(held, "code", lambda: "changed")
        assert "W1" not in held.Results(path, {"W1": {"turns": 7}})

    @pytest.mark.parametrize(
        "text", ["", "[]", "{", '{"W1": {}}', '{"measured_by": 1}']
    )
    def test_in_another_file_are_not(self, tmp_path, text):
        path = tmp_path / "b.json"
        path.write_text(text)
        assert "W1" not in held.Results(path, WANTED)
        assert "W1" in self.filled(path)

    @pytest.mark.parametrize("what", ["machine", "versions", "variable"])
    def test_of_other_surroundings_are_not(self, tmp_path, monkeypatch, what):
        path = tmp_path / "b.json"
        self.filled(path)
        if what == "machine":
            monkeypatch.setattr(held.user_cache, "machine", lambda: ("Plan 9", "vax"))
        if what == "versions":
            monkeypatch.setattr(held.provenance, "package_versions", dict)
        if what == "variable":
            monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert "W1" not in held.Results(path, WANTED)

    def test_of_other_commands_stay(self, tmp_path):
        path = tmp_path / "b.json"
        self.filled(path)
        held.Results(path, {"W9": {}}).add("W9", {"in_process_seconds": 2.0})
        written = json.loads(path.read_text())
        assert set(written) == {"W9", "W1", "scale_out", "measured_by"}
        assert written["scale_out"] == {"W1": {"folder": {"workers": 2}}}
        again = held.Results(path, {**WANTED, "W9": {}})
        assert "W9" in again
        assert "W1" in again

    @pytest.mark.parametrize(
        ("reason", "is_taken"),
        [("no answer within 300 s", True), ("no network", False)],
    )
    def test_without_a_peer_are_taken_if_the_reason_stays(
        self, tmp_path, reason, is_taken
    ):
        path = tmp_path / "b.json"
        held.Results(path, WANTED).add("W1", {"absent": {"pfl": reason}})
        assert ("W1" in held.Results(path, WANTED)) == is_taken

    def test_without_a_file_are_kept(self):
        results = self.filled(None)
        assert "W1" in results
        assert list(results.values()) == ["W1", "scale_out"]

    def test_skip_the_measurement(self, tmp_path, monkeypatch, capsys):
        output = tmp_path / "b.json"
        measured = []

        def measure(workload, chosen, count, folder):
            measured.append(workload)
            return {}, {"opacus": "no answer within 300 s"}

        monkeypatch.setattr(turns, "measure", measure)
        for names in ("W9", "W9,W1"):
            arguments = [f"--workloads={names}", f"--output={output}"]
            monkeypatch.setattr(sys, "argv", ["bench", *arguments])
            bench.main()
        assert measured == ["W9", "W1"]
        told = capsys.readouterr()
        assert f"W9: {output} already has this result" in told.err
        # Said in the table, and the run went on.
        assert "| W9 | none |" in told.out
        assert "W9, no opacus: no answer within 300 s" in told.out


def test_ways_of_scale_out_are_skipped_alone(tmp_path, monkeypatch):
    output = tmp_path / "b.json"
    measured = []
    lost = {"folder"}

    def one_run(workload, workers, how, folder):
        if how in lost:
            raise ContenderFailed("gone")
        measured.append((how, workers))
        return {}

    monkeypatch.setattr(scale_out, "WAYS", ("shipped", "folder"))
    monkeypatch.setattr(scale_out, "WORKERS", (1,))
    monkeypatch.setattr(scale_out, "one_run", one_run)
    monkeypatch.setattr(scale_out, "summary", lambda runs, cores: {"cores": 2})
    monkeypatch.setattr(scale_out, "table", str)
    arguments = ["--workloads=", "--scale_out=W1", f"--output={output}"]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit, match="gone"):
        bench.main()
    assert json.loads(output.read_text())["scale_out"] == {
        "W1": {"shipped": {"cores": 2}}
    }
    lost.clear()
    bench.main()
    assert measured == [("shipped", 1), ("folder", 1)]
    written = json.loads(output.read_text())["scale_out"]["W1"]
    assert written == {"shipped": {"cores": 2}, "folder": {"cores": 2}}
