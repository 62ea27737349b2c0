"""Two lines in turn, of which a torn write leaves the other."""

import json
import os

import pytest

from tfl_research.privacy.ledger import head_file


def position(lines):
    return {"lines": lines, "hash": f"{lines:064x}"}


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def writer(ledger):
    held = head_file.Writer(ledger)
    yield held
    held.close()


def test_the_last_position_is_read(ledger, writer):
    assert head_file.read(ledger) is None
    for lines in range(12):
        writer.write(position(lines))
        assert head_file.read(ledger) == position(lines)
    assert len(head_file.path_of(ledger).read_bytes()) == 256


def test_it_is_written_in_place(ledger, writer):
    writer.write(position(1))
    inode = head_file.path_of(ledger).stat().st_ino
    writer.write(position(2))
    other = head_file.Writer(ledger)
    other.write(position(3))
    other.close()
    writer.write(position(4))
    assert head_file.path_of(ledger).stat().st_ino == inode
    assert head_file.read(ledger) == position(4)


@pytest.mark.parametrize("bytes_written", range(129))
def test_a_torn_write_leaves_the_position_before(
    ledger, writer, monkeypatch, bytes_written
):
    for lines in (7, 8, 9):
        writer.write(position(lines))
    inner = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda fd, line, at: inner(fd, line[:bytes_written], at)
    )
    writer.write({"lines": 10, "hash": "f" * 64})
    found = head_file.read(ledger)
    if bytes_written < len('{"lines":10,"hash":"","check":""}') + 64 + 8:
        assert found == position(9)
    else:
        # Only spaces were torn.
        assert found == {"lines": 10, "hash": "f" * 64}


def test_a_changed_digit_is_no_position(ledger, writer):
    writer.write(position(4))
    writer.write(position(5))
    path = head_file.path_of(ledger)
    path.write_bytes(path.read_bytes().replace(b'"lines":5', b'"lines":9'))
    assert head_file.read(ledger) == position(4)


def test_the_file_of_an_earlier_version(ledger, writer):
    path = head_file.path_of(ledger)
    path.write_text(json.dumps(position(41)) + "\n")
    assert head_file.read(ledger) == position(41)
    writer.write(position(42))
    assert head_file.read(ledger) == position(42)
    assert head_file.read(ledger.with_name("other")) is None


@pytest.mark.parametrize("change", ["unlinked", "replaced", "emptied"])
def test_a_file_that_is_changed_while_it_is_open(ledger, writer, change):
    writer.write(position(1))
    path = head_file.path_of(ledger)
    if change == "unlinked":
        path.unlink()
    elif change == "replaced":
        other = path.with_name("copy")
        other.write_bytes(path.read_bytes())
        os.replace(other, path)
    else:
        path.write_bytes(b"")
    writer.write(position(2))
    assert head_file.read(ledger) == position(2)


def test_a_file_that_cannot_be_written_is_left_alone(ledger, writer):
    head_file.path_of(ledger).mkdir()
    writer.write(position(1))
    assert head_file.read(ledger) is None
