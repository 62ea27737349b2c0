"""A metrics.csv that was damaged: what is restored, and what is named as lost."""

from __future__ import annotations

import warnings

import pytest

from tfl_research.errors import UserError
from tfl_research.storage import MetricsLog


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "metrics.csv", tmp_path / "metrics_copy.jsonl"


def opened(paths, rounds, digest):
    return MetricsLog(paths[0], completed_rounds=rounds, copy=paths[1], digest=digest)


@pytest.fixture
def written(paths):
    """The content of a file of four rounds, and its digest."""
    log = opened(paths, 0, None)
    for number in range(1, 5):
        log.append(
            {
                "round": number,
                "train_loss": number / 3,
                "epsilon": 0.5,
                "extra": f"a,{number}",
                "round_seconds": number / 7,
            }
        )
    log.close()
    return paths[0].read_text(), log.digest


def again(paths, digest, rounds=4):
    """The file after a resume, and what the resume said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        log = opened(paths, rounds, digest)
    log.close()
    return paths[0].read_text(), [str(w.message) for w in caught]


def test_a_whole_file_is_left_alone(paths, written):
    content, digest = written
    assert again(paths, digest) == (content, [])
    # As an earlier version left it.
    paths[1].unlink()
    assert again(paths, None) == (content, [])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.replace("\n2,", "\nx,"), "the row of round 2 is"),
        (lambda t: t.replace("\n2,", "\n2\0,"), "the row of round 2 is"),
        (lambda t: t.replace("\n2,", "\n,"), "the row of round 2 is"),
        (lambda t: t.replace("\n2,", "\n²,"), "the row of round 2 is"),
        (lambda t: t.replace("0.666666667", "0.766666667"), "the row of round 2 is"),
        (lambda t: t.replace("0.666666667", ""), "the row of round 2 is"),
        (lambda t: t.replace("0.285714286", "9"), "the row of round 2 is"),
        (lambda t: t[: t.index("\n2,") + 1], "the rows of rounds 2 to 4 are"),
        (lambda t: "", "the rows of rounds 1 to 4 are"),
        (lambda t: t.replace("train_loss", "train_los"), "the rows of rounds 1 to 4 "),
        (lambda t: t.replace(",extra", ",extre"), "the rows of rounds 1 to 4 are"),
    ],
)
def test_damage_is_restored_from_the_copy(paths, written, change, named):
    content, digest = written
    paths[0].write_text(change(content))
    found, said = again(paths, digest)
    assert found == content
    assert said == [
        f"{paths[0]} was damaged: {named.removesuffix(' ').removesuffix(' are')}"
        f"{'' if named.endswith('is') else ' are'} restored from the copy in "
        "metrics_copy.jsonl"
    ]


def test_a_missing_file_is_restored(paths, written):
    content, digest = written
    paths[0].unlink()
    assert again(paths, digest)[0] == content


def test_a_doubled_row_is_dropped(paths, written):
    content, digest = written
    row = content.splitlines(keepends=True)[2]
    paths[0].write_text(content.replace(row, row + row))
    found, said = again(paths, digest)
    assert found == content
    assert said == [
        f"{paths[0]} had lines that are not rows of the table; these lines are dropped"
    ]


def test_a_damaged_copy_is_made_again(paths, written):
    content, digest = written
    copy = paths[1].read_text()
    for text in ("", copy.replace("0.666666667", "0.777777777"), copy[:40], "\0\xff"):
        paths[1].write_text(text)
        assert again(paths, digest) == (content, [])
        assert paths[1].read_text() == copy


def test_an_older_copy_is_not_believed(paths, written):
    content, digest = written
    log = opened((paths[0].with_name("o.csv"), paths[1]), 0, None)
    log.append({"round": 1, "train_loss": 7.0, "epsilon": 0.5})
    log.close()
    assert again(paths, digest) == (content, [])


def test_rows_that_both_files_lost_are_named(paths, written):
    content, digest = written
    lines = content.splitlines(keepends=True)
    paths[0].write_text("".join(lines[:2] + lines[4:]))
    copied = paths[1].read_text().splitlines(keepends=True)
    paths[1].write_text("".join(copied[:1] + copied[3:]))
    found, said = again(paths, digest)
    assert found == "".join(lines[:2] + lines[4:])
    assert said == [
        f"{paths[0]} lacks 2 of the 4 rounds completed: the rows of rounds 2 to 3 are "
        "lost and cannot be made again"
    ]


def test_a_changed_cell_without_a_copy_is_said(paths, written):
    content, digest = written
    paths[0].write_text(content.replace("0.666666667", "0.766666667"))
    paths[1].unlink()
    _, said = again(paths, digest)
    assert said == [
        f"{paths[0]} was changed in its rows up to round 4; nobody can tell "
        "which cell or row, because the copy is missing or damaged"
    ]


def test_another_table_is_refused(paths):
    paths[0].write_text("round,loss\n1,2\n")
    with pytest.raises(UserError, match="lacks the column cohort_size"):
        opened(paths, 1, None)
    assert paths[0].read_text() == "round,loss\n1,2\n"


def test_a_file_that_is_changed_during_the_run_is_written_again(paths, written):
    content, digest = written
    log = opened(paths, 4, digest)
    paths[0].write_text("gone")
    with pytest.warns(UserWarning, match="changed or removed while the run used it"):
        log.sync()
    assert paths[0].read_text() == content
    paths[0].unlink()
    with pytest.warns(UserWarning, match="changed or removed"):
        log.sync()
    log.append({"round": 5, "epsilon": 0.5})
    assert paths[0].read_text().startswith(content)
    log.close()
