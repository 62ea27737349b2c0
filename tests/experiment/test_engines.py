"""How a run executes its rounds is kept in its folder."""

from __future__ import annotations

import json

import pytest

from tfl_research.errors import UserError
from tfl_research.experiment import engines


def test_nothing_is_kept_before_the_first_start(tmp_path):
    assert engines._remembered(tmp_path / "runtime.json", engines._parts) is None


def test_what_is_kept_is_read_again(tmp_path):
    path = tmp_path / "runtime.json"
    engines._remember(path, {"parts": 3})
    assert json.loads(path.read_text(encoding="utf-8")) == {"parts": 3}
    assert engines._remembered(path, engines._parts) == 3


def test_the_kept_mode_of_execution(tmp_path):
    from tfl_research import runtime

    path = tmp_path / "runtime.json"
    engines._remember(
        path, {"clients": "folded", "compiler": "xla", "parallel": 2, "reason": "fast"}
    )
    found = engines._remembered(path, engines._mode)
    assert found == (runtime.Mode("folded", "xla"), 2)
    path.write_text('{"clients": "sideways", "compiler": "xla", "parallel": 2}')
    with pytest.raises(UserError, match="does not hold a choice of execution"):
        engines._remembered(path, engines._mode)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"parts": "x"}', "null"])
def test_what_cannot_be_read_is_one_line(tmp_path, text):
    path = tmp_path / "runtime.json"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        engines._remembered(path, engines._parts)
    message = raised.value.for_command_line
    assert message.startswith(f"{path} does not hold a choice of execution (")
    assert message.endswith("; start over in another --output_dir")
    assert "\n" not in message
