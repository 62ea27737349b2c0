"""The digest of downloaded data, which do not fit into memory."""

from __future__ import annotations

import hashlib

import pytest

from tfl_research.tasks.built_in import downloads

FILES = {
    "cifar100": ["cifar100.sqlite"],
    "emnist": ["emnist_all.sqlite"],
    "stackoverflow": [
        "stackoverflow.sqlite",
        "datasets/stackoverflow.word_count.tar.bz2",
    ],
}


@pytest.mark.parametrize("task", FILES)
def test_every_byte_of_every_file_counts(task, tmp_path):
    options = {"cache_dir": str(tmp_path)}
    expected = hashlib.sha256()
    for number, name in enumerate(FILES[task]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        content = bytes([number]) * 5_000_000
        path.write_bytes(content)
        expected.update(content + path.name.encode() + b"\n")
    digest = downloads.digest(task, options)
    assert digest == expected.hexdigest()
    for name in FILES[task]:
        with open(tmp_path / name, "r+b") as file:
            file.seek(4_999_999)
            file.write(b"x")
        assert downloads.digest(task, options) != digest


def test_other_tasks_are_in_memory(tmp_path):
    assert downloads.digest("heart", {}) is None
    assert downloads.digest("emnist", {"synthetic": True}) is None
