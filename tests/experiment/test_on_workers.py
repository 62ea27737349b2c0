"""What the privacy statement says of workers on other machines."""

import tfl_research as tfl
from tfl_research.experiment.private import on_workers


def test_nothing_of_workers_without_workers():
    assert on_workers.outside_lines(tfl.Runtime()) == []
    assert on_workers.outside_lines(tfl.Runtime("tff")) == []


def test_workers_and_the_folder_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [alone] = on_workers.outside_lines(tfl.Runtime("remote", workers="a:1"))
    assert "workers of --runtime=remote" in alone
    runtime = tfl.Runtime("remote", workers="a:1", worker_data="examples")
    first, folder = on_workers.outside_lines(runtime)
    assert first == alone
    assert folder.startswith(f"Whoever can enter {tmp_path}/examples (--worker_data)")
