"""The statement of a run that begins, goes on, fails or is refused."""

from __future__ import annotations

import pytest

from tfl_research.experiment.private.statement_file import kept_up_to_date


@pytest.fixture
def path(tmp_path):
    return tmp_path / "privacy.txt"


def writer(path, ledger):
    return lambda: path.write_text(f"{len(ledger)} rounds", encoding="utf-8")


def test_is_there_from_the_first_line_and_up_to_date_at_the_end(path):
    ledger = []
    with kept_up_to_date(path, ledger, writer(path, ledger)):
        assert path.read_text(encoding="utf-8") == "0 rounds"
        ledger.append(1)
    assert path.read_text(encoding="utf-8") == "1 rounds"


def run(path, ledger, rounds, error):
    """Charges rounds and fails."""
    with kept_up_to_date(path, ledger, writer(path, ledger)):
        ledger.extend(range(rounds))
        raise error


def test_what_was_charged_before_a_failure_is_in_it(path):
    with pytest.raises(KeyboardInterrupt):
        run(path, [], 2, KeyboardInterrupt())
    assert path.read_text(encoding="utf-8") == "2 rounds"


def test_a_refused_resume_keeps_the_statement(path):
    path.write_text("7 rounds", encoding="utf-8")
    with pytest.raises(ValueError, match="lost rounds"):
        run(path, [], 0, ValueError("the ledger lost rounds"))
    assert path.read_text(encoding="utf-8") == "7 rounds"


def test_a_resumed_run_keeps_its_statement_until_it_stops(path):
    path.write_text("7 rounds", encoding="utf-8")
    ledger = list(range(7))
    with kept_up_to_date(path, ledger, writer(path, ledger)):
        ledger.append(8)
        assert path.read_text(encoding="utf-8") == "7 rounds"
    assert path.read_text(encoding="utf-8") == "8 rounds"
