"""What a run chooses once is kept in its folder."""

from __future__ import annotations

import json

import pytest

from tfl_research.errors import UserError
from tfl_research.storage import kept_choice


def parts(record):
    return int(record["parts"])


def test_nothing_is_kept_before_the_first_start(tmp_path):
    assert kept_choice.kept(tmp_path / "runtime.json", parts) is None


def test_what_is_kept_is_read_again(tmp_path):
    path = tmp_path / "runtime.json"
    kept_choice.keep(path, {"parts": 3})
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["parts"] == 3
    assert kept_choice.kept(path, parts) == 3
    # Without a key, the seal shows damage.
    path.write_text(json.dumps({**written, "parts": 4}))
    with pytest.raises(UserError, match="it was changed"):
        kept_choice.kept(path, parts)
    # A file of an earlier version has no seal.
    path.write_text('{"parts": 5}')
    assert kept_choice.kept(path, parts) == 5


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"parts": "x"}', "null"])
def test_what_cannot_be_read_is_one_line(tmp_path, text):
    path = tmp_path / "runtime.json"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        kept_choice.kept(path, parts)
    message = raised.value.for_command_line
    assert message.startswith(f"{path} does not hold a choice of execution (")
    assert message.endswith("; restore the file, or start over in another --output_dir")
    assert "\n" not in message


def test_a_sealed_file_is_believed_with_its_key_alone(tmp_path):
    path = tmp_path / "runtime.json"
    kept_choice.keep(path, {"parts": 3}, b"key")
    assert kept_choice.kept(path, parts, b"key") == 3
    for key in (b"other", b"key"):
        with pytest.raises(UserError, match="its seal does not match"):
            kept_choice.kept(path, parts, key)
        path.write_text(path.read_text().replace("3,", "4,"))
