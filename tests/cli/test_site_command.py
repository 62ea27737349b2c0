"""scripts/site: what is refused before anything starts."""

from __future__ import annotations

import pytest

from tfl_research.cli import site


def test_a_file_that_is_missing_is_named(tmp_path, capsys):
    assert site.main([f"--config={tmp_path / 'site.toml'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"site: --config={tmp_path / 'site.toml'}: the file does not exist"
    )
    assert error.count("\n") == 1


def test_help_needs_no_file(capsys):
    with pytest.raises(SystemExit) as caught:
        site.main(["--help"])
    assert caught.value.code == 0
    assert "--config FILE" in capsys.readouterr().out
