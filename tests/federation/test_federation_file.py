"""federation.toml: what is read, and what is refused by name."""

from __future__ import annotations

import pytest

from tfl_research.errors import UserError
from tfl_research.federation import federation_file
from tfl_research.federation.wire import authentication

TEXT = """\
[federation]
name = "wards"
round_deadline = 30

[[site]]
name = "north"
key = "keys/north.key"
socket = "sites/north/site.sock"

[[site]]
name = "south"
key = "/elsewhere/south.key"
socket = "south.sock"
"""


def _read(tmp_path, text: str):
    path = tmp_path / "federation.toml"
    path.write_text(text)
    return federation_file.read(path)


def test_a_file_is_read_with_paths_from_its_folder(tmp_path):
    file = _read(tmp_path, TEXT)
    assert (file.name, file.carrier, file.site_names) == (
        "wards",
        "local",
        ("north", "south"),
    )
    assert (file.round_deadline, file.start_deadline) == (30.0, 600.0)
    assert file.folder == tmp_path
    assert file.coordinator_socket == tmp_path / "coordinator.sock"
    assert file.sites[0].key == tmp_path / "keys" / "north.key"
    assert str(file.sites[1].key) == "/elsewhere/south.key"
    assert file.sockets() == {
        "north": tmp_path / "sites" / "north" / "site.sock",
        "south": tmp_path / "south.sock",
    }


def test_other_carriers_need_no_socket(tmp_path):
    text = TEXT.replace('name = "wards"', 'name = "wards"\ncarrier = "flare"')
    text = text.replace('socket = "south.sock"\n', "")
    file = _read(tmp_path, text)
    assert file.carrier == "flare"
    assert list(file.sockets()) == ["north"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('socket = "south.sock"', "", r"\[\[site\]\] south: the carrier 'local' needs"),
        ('name = "south"', 'name = "north"', "two tables .* the name 'north'"),
        ('name = "south"', 'name = "a b"', r"\[\[site\]\] name is 'a b'"),
        ('name = "wards"', "", "name must be a text, got None"),
        ('name = "wards"', 'name = "w"\ncarrier = "ftp"', "carrier must be one of"),
        ("round_deadline = 30", "round_deadline = 0", "round_deadline must be seconds"),
        ("round_deadline = 30", "start_deadline = inf", "start_deadline must be seco"),
        ("= 30", "= 1" + 400 * "0", "round_deadline must be seconds above 0"),
        ("round_deadline", "deadline", "unknown entry 'deadline'; expected name"),
        ('key = "keys/north.key"', "key = 3", "north: key must be a path, got 3"),
        ("[federation]", "[coordinator]", "unknown entry 'coordinator'"),
        ("[[site]]", "[site]", "is not TOML"),
        ("= 30", "=", r"is not TOML.*line 3"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, old, new, message):
    assert old in TEXT
    with pytest.raises(UserError, match=message) as caught:
        _read(tmp_path, TEXT.replace(old, new))
    assert str(tmp_path / "federation.toml") in str(caught.value)


@pytest.mark.parametrize("text", ["", '[federation]\nname = "a"\n'])
def test_tables_that_are_missing_are_named(tmp_path, text):
    with pytest.raises(UserError, match=r"has no (table \[federation\]|\[\[site\]\])"):
        _read(tmp_path, text)


def test_two_sites_must_not_share_a_key(tmp_path):
    text = TEXT.replace("/elsewhere/south.key", "keys/south.key")
    file = _read(tmp_path, text)
    (tmp_path / "keys").mkdir()
    first = authentication.make_key(tmp_path / "keys" / "north.key")
    with pytest.raises(UserError, match=r"cannot read the key .*south\.key"):
        file.keys()
    second = authentication.make_key(tmp_path / "keys" / "south.key")
    assert file.keys() == {"north": first, "south": second}
    copied = (tmp_path / "keys" / "north.key").read_bytes()
    (tmp_path / "keys" / "south.key").write_bytes(copied)
    with pytest.raises(UserError, match="north and south have the same key"):
        file.keys()
