"""The ledger survives kills, and notices when it is tampered with."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os

import pytest

from tfl_research import privacy
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.search_event import (
    HyperparameterSearchEvent,
)
from tfl_research.privacy.ledger import hash_chain, head_file

EVENT = GaussianEvent("poisson", 1.1, 0.02, 500, 10.0, "add_or_remove_one")
# Its rounds belong together: it cannot begin or end in mid-run.
WHOLE = HyperparameterSearchEvent(EVENT, 5.0)
OTHER = dataclasses.replace(EVENT, noise_multiplier=1.2)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def fill(path, events):
    with privacy.Ledger(path) as ledger:
        for number, event in enumerate(events, start=1):
            ledger.record(number, event)
    return path.read_bytes()


def test_lines_are_chained_json_without_times(path):
    content = fill(path, [EVENT, OTHER])
    first, second = (json.loads(line) for line in content.splitlines())
    assert first.pop("hash") == second["previous"]
    assert first == {
        "round": 1,
        "event": {
            "kind": "gaussian",
            "sampling": "poisson",
            "noise_multiplier": 1.1,
            "sampling_rate": 0.02,
            "population": 500,
            "cohort_size": 10.0,
            "neighbouring_relation": "add_or_remove_one",
        },
        "previous": "0" * 64,
    }
    # By hand: the hash is of the line without the hash.
    body, _ = content.splitlines()[1].split(b',"hash":')
    assert second["hash"] == hashlib.sha256(body + b"}").hexdigest()
    assert content.endswith(b"\n")


@pytest.mark.parametrize("event", [EVENT, WHOLE])
def test_reads_back_any_event(path, event):
    fill(path, [event] * 2)
    with privacy.Ledger(path) as ledger:
        assert ledger.events == (event, event)


def test_reads_back_what_was_recorded(path):
    fill(path, [EVENT, OTHER, EVENT])
    with privacy.Ledger(path) as ledger:
        assert ledger.events == (EVENT, OTHER, EVENT)
        assert len(ledger) == 3
        assert ledger[1] == OTHER


def test_is_on_disk_and_synced_before_record_returns(path, monkeypatch):
    synced = []
    with privacy.Ledger(path) as ledger:
        fsync = os.fsync
        monkeypatch.setattr(
            os,
            "fsync",
            lambda fd: (synced.append(path.read_bytes().count(b"\n")), fsync(fd)),
        )
        ledger.record(1, EVENT)
        ledger.record(2, EVENT)
    assert synced == [1, 2]


def test_resuming_is_byte_identical(path, tmp_path):
    whole = fill(tmp_path / "whole.jsonl", [EVENT] * 5)
    fill(path, [EVENT] * 3)
    with privacy.Ledger(path) as ledger:
        # The resumed run repeats rounds 2 and 3 from its checkpoint.
        for number in range(2, 6):
            ledger.record(number, EVENT)
    assert path.read_bytes() == whole


def test_a_torn_last_line_is_dropped_with_a_warning(path, tmp_path):
    whole = fill(tmp_path / "whole.jsonl", [EVENT] * 3)
    start = whole.rindex(b"\n", 0, -1) + 1
    last = len(whole) - 1
    for length in [*range(start + 1, last - 1, 37), last - 1, last]:
        path.write_bytes(whole[:length])
        head_file.path_of(path).unlink(missing_ok=True)
        with pytest.warns(UserWarning, match=r"dropped line 3, which was cut off"):
            ledger = privacy.Ledger(path)
        with ledger:
            assert len(ledger) == 2
            assert path.read_bytes() == whole[:start]
            ledger.record(3, EVENT)
        assert path.read_bytes() == whole


def edited(lines):
    lines[1] = lines[1].replace(b"1.2", b"9.2")


def edited_last(lines):
    lines[2] = lines[2].replace(b"1.1", b"9.1")


def respelled(lines):
    lines[1] = lines[1].replace(b'"round":2', b'"round": 2')


def removed(lines):
    del lines[1]


def removed_first(lines):
    del lines[0]


def swapped(lines):
    lines[1], lines[2] = lines[2], lines[1]


def repeated(lines):
    lines.insert(1, lines[0])


def emptied(lines):
    lines[1] = b""


def joined(lines):
    lines[0:2] = [lines[0] + lines[1]]


def inserted(lines):
    # A line that is well made by itself.
    fields = {"round": 2, "event": EVENT.to_dict()}
    lines.insert(1, hash_chain.encode(fields, hash_chain.NO_LINE_HASH)[0])


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (edited, 2, "was edited"),
        (edited_last, 3, "was edited"),
        (respelled, 2, "was edited"),
        (removed, 2, "does not follow the line before it"),
        (removed_first, 1, "does not follow the line before it"),
        (swapped, 2, "does not follow the line before it"),
        (repeated, 2, "does not follow the line before it"),
        (inserted, 2, "does not follow the line before it"),
        (emptied, 2, "not a ledger line"),
        (joined, 1, "not a ledger line"),
    ],
)
def test_tampering_names_file_and_line(path, change, line, reason):
    lines = fill(path, [EVENT, OTHER, EVENT]).splitlines()
    change(lines)
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(ValueError, match=rf"ledger\.jsonl, line {line}: {reason}"):
        privacy.Ledger(path)


def test_lines_cut_off_the_end_are_found_by_a_position(path):
    fill(path, [EVENT, OTHER])
    with privacy.Ledger(path) as ledger:
        early = ledger.position
        assert early["lines"] == 2
        ledger.record(3, EVENT)
        late = ledger.position
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    with pytest.raises(ValueError, match=r"had 3: its .* \(noted in .*\.head\)"):
        privacy.Ledger(path)
    head_file.path_of(path).unlink()
    with privacy.Ledger(path) as ledger:
        # A chain that ends early is whole by itself.
        assert len(ledger) == 2
        ledger.check_position(early)
        with pytest.raises(ValueError, match="has 2 lines, but had 3: its last lines"):
            ledger.check_position(late)
        ledger.record(3, OTHER)
        with pytest.raises(
            ValueError, match="line 3: differs from the line that was there before"
        ):
            ledger.check_position(late)


def test_a_rewritten_chain_is_found_by_a_position(path, tmp_path):
    fill(path, [EVENT, OTHER])
    with privacy.Ledger(path) as ledger:
        position = ledger.position
    fill(tmp_path / "rewritten.jsonl", [OTHER, OTHER, OTHER])
    message = "line 2: differs from the line that was there before"
    ledger = privacy.Ledger(tmp_path / "rewritten.jsonl")
    with ledger, pytest.raises(ValueError, match=message):
        ledger.check_position(position)


def test_a_failed_write_leaves_nothing_behind(path, monkeypatch):
    before = fill(path, [EVENT])
    write = os.write
    with privacy.Ledger(path) as ledger:
        with monkeypatch.context() as patch:
            # A disk that fills up in the middle of the line.
            patch.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
            full = r"cannot write to .*ledger\.jsonl \(No space left on device\)"
            with pytest.raises(ValueError, match=full):
                ledger.record(2, EVENT)
        with monkeypatch.context() as patch:
            # Nor where it is on disk in whole, but not known to be.
            def fails(descriptor):
                raise OSError(errno.EIO, os.strerror(errno.EIO))

            patch.setattr(os, "fsync", fails)
            with pytest.raises(ValueError, match=r"\(Input/output error\)"):
                ledger.record(2, EVENT)
        assert path.read_bytes() == before
        ledger.record(2, EVENT)
        assert len(ledger) == 2
    assert path.read_bytes() == fill(path.with_name("other.jsonl"), [EVENT] * 2)


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"[1]", b"{}", b'{"round":1}', b"\x00\x00", b""],
)
def test_malformed_lines(path, line):
    path.write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r"ledger\.jsonl, line 1: not a ledger line"):
        privacy.Ledger(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"round": 1, "event": {**EVENT.to_dict(), "population": 0}}, "population"),
        ({"round": 1, "event": {**EVENT.to_dict(), "kind": "magic"}}, "magic"),
        ({"round": 1, "event": 7}, "not a ledger line"),
        ({"round": 1}, "not a ledger line"),
        ({"round": 2, "event": EVENT.to_dict()}, "is round 2, expected round "),
    ],
)
def test_impossible_lines_are_refused(path, fields, message):
    path.write_bytes(hash_chain.encode(fields, hash_chain.NO_LINE_HASH)[0] + b"\n")
    with pytest.raises(ValueError, match=rf"ledger\.jsonl, line 1: .*{message}"):
        privacy.Ledger(path)


@pytest.mark.parametrize("pair", [(EVENT, WHOLE), (WHOLE, EVENT)])
def test_a_mechanism_over_all_rounds_cannot_change_in_mid_run(path, pair):
    fill(path, [pair[0]])
    message = "hyperparameter_search mechanism cannot begin or end in mid-run"
    with privacy.Ledger(path) as ledger, pytest.raises(ValueError, match=message):
        ledger.record(2, pair[1])


def test_same_round_again_is_free_and_another_event_is_refused(path):
    before = fill(path, [EVENT, EVENT])
    with privacy.Ledger(path) as ledger:
        ledger.record(2, EVENT)
        with pytest.raises(ValueError, match="resume with the same privacy settings"):
            ledger.record(2, OTHER)
        assert path.read_bytes() == before


@pytest.mark.parametrize("round_number", [0, 2, 5])
def test_rounds_may_not_be_skipped(path, round_number):
    message = f"round {round_number} cannot be recorded"
    with privacy.Ledger(path) as ledger, pytest.raises(ValueError, match=message):
        ledger.record(round_number, EVENT)


def test_one_ledger_belongs_to_one_process(path):
    # A lock of the file, not of the process: opening twice is enough to see it.
    in_use = "is in use by another process"
    with privacy.Ledger(path), pytest.raises(ValueError, match=in_use):
        privacy.Ledger(path)
    privacy.Ledger(path).close()


def test_a_ledger_that_cannot_be_opened(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder, expected a file"):
        privacy.Ledger(tmp_path)
    with pytest.raises(ValueError, match=r"cannot open .* \(No such file"):
        privacy.Ledger(tmp_path / "no" / "ledger.jsonl")


def test_closing_twice_is_harmless(path):
    ledger = privacy.Ledger(path)
    ledger.close()
    ledger.close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize("text", ["my notes", '{"rounds": 3}', "{}", "[1"])
def test_a_file_that_is_no_ledger_is_left_as_it_is(path, text):
    """A single line without its end is not what a kill left of a ledger's."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1: not a ledger line; nothing was"):
        privacy.Ledger(path)
    assert path.read_text(encoding="utf-8") == text
