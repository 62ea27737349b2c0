"""Seals of messages, and files of keys."""

from __future__ import annotations

import hashlib
import hmac
import stat

import pytest

from tfl_research.errors import UserError
from tfl_research.federation.wire.authentication import (
    AuthenticationError,
    Seal,
    check_name,
    mac_of,
    make_key,
    opened,
    read_key,
    sealed,
)

_KEY = bytes(range(32))
_SEAL = Seal(True, "nord", "run-1", 258, bytes(range(32, 64)))


class TestSeal:
    def test_opens_as_it_was_sealed(self):
        assert opened(sealed(b"body", _KEY, _SEAL), _KEY) == (_SEAL, b"body")
        assert opened(sealed(b"", _KEY, _SEAL), _KEY) == (_SEAL, b"")

    def test_the_bytes_are_those_of_the_documentation(self):
        rest = b"\x01" + bytes([0, 0, 0, 0, 0, 0, 1, 2]) + bytes(range(32, 64))
        rest += b"\x00\x04nord" + b"\x00\x05run-1" + b"body"
        mac = hmac.new(_KEY, rest, hashlib.sha256).digest()
        assert sealed(b"body", _KEY, _SEAL) == b"tflseal1" + mac + rest

    def test_every_flipped_bit_is_refused(self):
        content = sealed(b"body", _KEY, _SEAL)
        for position in range(len(content)):
            for bit in range(8):
                changed = bytearray(content)
                changed[position] ^= 1 << bit
                with pytest.raises(AuthenticationError):
                    opened(bytes(changed), _KEY)

    def test_every_other_length_is_refused(self):
        content = sealed(b"body", _KEY, _SEAL)
        for length in range(len(content)):
            with pytest.raises(AuthenticationError):
                opened(content[:length], _KEY)
        with pytest.raises(AuthenticationError, match="altered"):
            opened(content + b"\0", _KEY)

    def test_another_key_is_refused(self):
        with pytest.raises(AuthenticationError, match="sealed by another key"):
            opened(sealed(b"body", _KEY, _SEAL), bytes(32))

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (b"\x00\xff", "cut off"),
            (b"\x00\x03ab\xff\x00\x01a", "not text"),
            (b"\x00\x01a\x00\x02a", "cut off"),
            (b"\x00\x02ab\x00", "cut off"),
        ],
    )
    def test_names_that_do_not_fit_under_a_right_seal(self, names, words):
        rest = bytes(41) + names
        mac = hmac.new(_KEY, rest, hashlib.sha256).digest()
        with pytest.raises(AuthenticationError, match=words):
            opened(b"tflseal1" + mac + rest, _KEY)

    def test_the_mac_tells_messages_apart(self):
        one, other = (sealed(body, _KEY, _SEAL) for body in (b"body", b"bodz"))
        assert mac_of(one) == one[8:40] != mac_of(other)


class TestKeys:
    def test_a_new_key_is_read_back_and_private(self, tmp_path):
        path = tmp_path / "a.key"
        key = make_key(path)
        assert len(key) == 32
        assert read_key(path) == key
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert make_key(tmp_path / "b.key") != key

    def test_no_key_is_replaced(self, tmp_path):
        path = tmp_path / "a.key"
        key = make_key(path)
        with pytest.raises(UserError, match="exists"):
            make_key(path)
        assert read_key(path) == key

    def test_a_key_that_others_may_read(self, tmp_path):
        path = tmp_path / "a.key"
        make_key(path)
        path.chmod(0o640)
        with pytest.raises(UserError, match=r"mode 0640.*chmod 600"):
            read_key(path)

    def test_no_file_and_no_key(self, tmp_path):
        with pytest.raises(UserError, match="scripts/federation provision"):
            read_key(tmp_path / "a.key")
        (tmp_path / "a.key").touch(0o600)
        with pytest.raises(UserError, match="64 lower-case"):
            read_key(tmp_path / "a.key")


@pytest.mark.parametrize("name", ["", ".", "a/b", "ä", "-a", "a" * 65, None, "a\n"])
def test_names_that_cannot_be_files(name):
    with pytest.raises(UserError, match="the site's name is"):
        check_name(name, "the site's name")
    assert check_name("St-Anna_2.b", "the site's name") == "St-Anna_2.b"
