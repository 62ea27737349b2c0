"""Seals messages: sender, receiver, run and number of a message are authenticated.

Each site and the coordinator share a key of 32 bytes. A sealed message is (big-endian):

    8 bytes   "tflseal1"
    32 bytes  HMAC-SHA256 by the key, over everything that follows
    1 byte    direction: 0 from the coordinator to the site, 1 back
    8 bytes   sequence number: a reply has its request's
    32 bytes  HMAC of the sealed request that is answered; zeros in a request
    2 bytes   length of the site's name, then the name in UTF-8
    2 bytes   length of the run's id, then the id in UTF-8
    the rest  the message

So a message that was altered, or meant for another site, run, direction or request, is
refused. The receiver refuses a message that came before: a site by
`site_requests.Requests`, and the coordinator because it takes only the answer to its
last request.

Bytes that begin with "tflunfit" are no message. A text in UTF-8 follows, which says why
there is no reply. Anyone may have written the text.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import pathlib
import re
import secrets
import stat
import struct
from typing import NamedTuple

from tfl_research.errors import UserError

KEY_BYTES = 32
_MAGIC = b"tflseal1"
_NO_REPLY = b"tflunfit"
_MAC = 32
_FRONT = struct.Struct(">BQ32sH")
_LENGTH = struct.Struct(">H")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# In the seal of a request, which answers no other request.
NOTHING = bytes(32)


class AuthenticationError(UserError):
    """Bytes are no message of this sender for this receiver and run."""


class Seal(NamedTuple):
    """The facts that the seal of a message states.

    Attributes:
      is_reply: whether a site sent the message.
      site: the site's name.
      run: the run's id.
      sequence: the request's number, larger than those before.
      answered: the HMAC of the request, see `mac_of`; `NOTHING` in a request.
    """

    is_reply: bool
    site: str
    run: str
    sequence: int
    answered: bytes = NOTHING


def check_name(name: object, what: str) -> str:
    """Checks the name of a site or the id of a run, and returns it.

    Raises:
      UserError: the name is not 1 to 64 letters, digits, ".", "_" and "-", beginning
        with a letter or digit.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"{what} is {str(name)[:80]!r}; expected 1 to 64 letters, digits, '.', '_' "
            "and '-', beginning with a letter or digit"
        )
    return name


def mac_of(content: bytes) -> bytes:
    """The HMAC in a sealed message, which tells the message from all others."""
    return content[len(_MAGIC) : len(_MAGIC) + _MAC]


def sealed(body: bytes, key: bytes, seal: Seal) -> bytes:
    """The message with its seal.

    Example:
      >>> from tfl_research.federation.wire import authentication
      >>> key = bytes(32)
      >>> seal = authentication.Seal(False, "hospital", "run1", 7)
      >>> authentication.opened(authentication.sealed(b"text", key, seal), key)
      (Seal(is_reply=False, site='hospital', run='run1', sequence=7, ...), b'text')
    """
    site, run = seal.site.encode(), seal.run.encode()
    front = b"".join(
        [
            _FRONT.pack(seal.is_reply, seal.sequence, seal.answered, len(site)),
            site,
            _LENGTH.pack(len(run)),
            run,
        ]
    )
    return b"".join([_MAGIC, _mac(key, front, body), front, body])


def opened(content: bytes, key: bytes) -> tuple[Seal, bytes]:
    """The seal of a sealed message, and the message in it.

    Args:
      content: the bytes; anyone may have written them.
      key: the key that is shared with the sender.

    Raises:
      AuthenticationError: the bytes are not a sealed message, or were altered or sealed
        by another key.
    """
    front = len(_MAGIC) + _MAC
    if len(content) < front + _FRONT.size + _LENGTH.size:
        raise AuthenticationError(
            f"{len(content)} bytes are too few for a sealed message: it is cut off"
        )
    if content[: len(_MAGIC)] != _MAGIC:
        raise AuthenticationError(
            f"the bytes begin with {content[: len(_MAGIC)]!r}, but a sealed message "
            f"begins with {_MAGIC!r}"
        )
    rest = memoryview(content)[front:]
    if not hmac.compare_digest(mac_of(content), _mac(key, rest)):
        raise AuthenticationError(
            "the message was altered, or was sealed by another key than this side has; "
            "compare the key files of the site and of the federation, and the socket "
            "that each of them names"
        )
    direction, sequence, answered, length = _FRONT.unpack_from(rest)
    site, end = _text(rest, _FRONT.size, length)
    if end + _LENGTH.size > len(rest):
        raise AuthenticationError("the sealed message is cut off")
    run, end = _text(rest, end + _LENGTH.size, *_LENGTH.unpack_from(rest, end))
    return Seal(bool(direction), site, run, sequence, answered), bytes(rest[end:])


def no_reply(reason: str) -> bytes:
    """The unsealed bytes that go back when no reply can be trusted or carried."""
    return _NO_REPLY + reason.encode(errors="replace")[:500]


def why_no_reply(content: bytes) -> str | None:
    """The reason in bytes of `no_reply`; None for other bytes."""
    if not content.startswith(_NO_REPLY):
        return None
    return content[len(_NO_REPLY) :][:500].decode(errors="replace")


def _text(content: memoryview, start: int, length: int) -> tuple[str, int]:
    """A text of a given length in bytes, and where the text ends."""
    end = start + length
    if end > len(content):
        raise AuthenticationError("the sealed message is cut off")
    try:
        return bytes(content[start:end]).decode(), end
    except UnicodeDecodeError as error:
        raise AuthenticationError(
            "the names in the sealed message are not text"
        ) from error


def _mac(key: bytes, *parts: bytes | memoryview) -> bytes:
    made = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        made.update(part)
    return made.digest()


def make_key(path: pathlib.Path) -> bytes:
    """Draws a key and writes it to a new file that only the owner can read.

    The file has 64 hexadecimal digits and a line end.

    Raises:
      UserError: the file exists, or cannot be written.
    """
    key = secrets.token_bytes(KEY_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise UserError(
            f"{path} exists; move the key away if both sides should get a new key"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); free space, or make the folder "
            "writable"
        ) from error
    return key


def read_key(path: pathlib.Path) -> bytes:
    """The key in a file of `make_key`.

    Raises:
      UserError: the file does not exist, has no key, or can be read by others than its
        owner.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise UserError(
            f"cannot read the key {path} ({error.strerror}); scripts/federation "
            "provision makes keys"
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(
            f"others can read the key {path} (mode {stat.S_IMODE(mode):04o}); make a "
            "new key if others may have read it, otherwise: chmod 600"
        )
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise UserError(
            f"{path} does not hold a key of 64 lower-case hexadecimal digits; copy "
            "the key from the other side again"
        )
    return bytes.fromhex(text)
