"""How settings are refused: in one line of a command line."""

from __future__ import annotations

import pytest

from tfl_research.errors import SettingError


def refused(build, *fragments: str) -> str:
    """The message of a refusal: one line that has the fragments, with flags."""
    with pytest.raises(SettingError) as raised:
        build()
    message = raised.value.for_command_line
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message
    return message
