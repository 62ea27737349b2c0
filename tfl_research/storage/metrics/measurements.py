"""measurements.jsonl: arrays and texts that each round measures beside numbers.

A file of JSON lines, only in runs that have such measurements. The first line is
`{"format": 1}`. Each further line is a round:

    {"round": 3, "values": {"centers": {"dtype": "float32", "shape": [2, 2], "values":
    [0.5, 1.0, 2.0, "nan"]}}, "check": "0b6a5b1c"}

`check` is the CRC-32 of the line without `check`, in hexadecimal. `values` are the
elements in row-major order. Numbers that JSON does not have are texts ("nan", "inf",
"-inf"), and complex numbers are texts. Texts have the dtype "text"; bytes have the
dtype "bytes", or "base64" if they are not UTF-8.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import pathlib
import warnings
import zlib
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from tfl_research.errors import UserError
from tfl_research.storage.files import atomic, file_kinds, json_file
from tfl_research.storage.files.appended_file import AppendedFile

FORMAT = 1


def encoded(array: np.ndarray) -> dict[str, Any]:
    """Returns the JSON values of an array."""
    shape = list(array.shape)
    kind = array.dtype.kind
    if kind in "OSU":
        texts = list(array.flat)
        if any(isinstance(each, str) for each in texts):
            return {"dtype": "text", "shape": shape, "values": list(map(str, texts))}
        try:
            values = [bytes(each).decode() for each in texts]
        except UnicodeDecodeError:
            values = [base64.b64encode(each).decode() for each in texts]
            return {"dtype": "base64", "shape": shape, "values": values}
        return {"dtype": "bytes", "shape": shape, "values": values}
    if kind in "biu":
        plain = array.ravel().tolist()
    elif kind == "c":
        plain = [str(each) for each in array.ravel().tolist()]
    else:
        plain = [_plain(float(each)) for each in array.ravel()]
    return {"dtype": array.dtype.name, "shape": shape, "values": plain}


def _plain(number: float) -> Any:
    return number if math.isfinite(number) else str(number)


def decoded(described: Mapping[str, Any]) -> np.ndarray:
    """Inverts `encoded`; types that NumPy does not have become float32."""
    dtype, values = described["dtype"], described["values"]
    if dtype in ("text", "bytes", "base64"):
        array = np.empty(len(values), object)
        array[:] = [_text(dtype, each) for each in values]
        return array.reshape(described["shape"])
    try:
        exact = np.dtype(dtype)
    except TypeError:
        exact = np.dtype(np.float32)
    if exact.kind == "c":
        values = [complex(each) for each in values]
    elif exact.kind == "f":
        values = [float(each) for each in values]
    return np.array(values, exact).reshape(described["shape"])


def _text(dtype: str, value: str) -> Any:
    if dtype == "bytes":
        return value.encode()
    return value if dtype == "text" else base64.b64decode(value)


def read(path: pathlib.Path) -> dict[int, dict[str, np.ndarray]]:
    """Reads measurements by round and name; returns none without the file.

    A last line that a kill cut off is left out.

    Raises:
      UserError: the file is damaged or of a later format.
    """
    lines, damaged = _lines(path)
    try:
        if damaged:
            raise ValueError(f"line {damaged[0]} is damaged")
        return {
            round_number: {name: decoded(value) for name, value in values.items()}
            for round_number, values in lines.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def _lines(path: pathlib.Path) -> tuple[dict[int, dict[str, Any]], list[int]]:
    """Reads the values by round, and the numbers of damaged lines.

    Raises:
      UserError: the file is no file of measurements, or has a later format.
    """
    wrong = file_kinds.problem(path)
    if wrong is not None:
        raise _damaged(path, ValueError(wrong))
    if not path.exists():
        return {}, []
    lines = path.read_bytes().split(b"\n")[:-1]
    if not lines:
        return {}, []
    try:
        header = json_file.parsed(lines[0])
    except ValueError as error:
        raise _damaged(path, error) from error
    if header != {"format": FORMAT}:
        raise UserError(
            f"{path} has the header {str(header)[:60]}, expected format {FORMAT}; "
            "resume with the version that wrote the file"
        )
    rows: dict[int, dict[str, Any]] = {}
    damaged = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            round_number, values = _parsed(line)
        except (ValueError, KeyError, TypeError, AttributeError):
            damaged.append(number)
            continue
        # Rounds come in order, once each.
        if rows and round_number <= max(rows):
            damaged.append(number)
            continue
        rows[round_number] = values
    return rows, damaged


def _parsed(line: bytes) -> tuple[int, dict[str, Any]]:
    """Parses the round and the values of a line.

    Raises:
      ValueError, KeyError, TypeError, AttributeError: the line is damaged.
    """
    row = json_file.parsed(line)
    round_number, values = row["round"], dict(row["values"])
    if type(round_number) is not int or round_number < 1:
        raise ValueError("it has no round")
    # Lines of earlier versions have no check.
    if "check" in row and _line(round_number, values).encode() != line + b"\n":
        raise ValueError("its checksum does not match")
    return round_number, values


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is not a file of measurements ({error}); restore it, or move it away "
        "to go on without the rounds in it"
    )


class MeasurementsLog:
    """Appends rounds to measurements.jsonl, and flushes each.

    Opening drops the rounds after the checkpoint from which the run resumes.

    Args:
      path: path of the file; the first round with measurements makes the file.
      completed_rounds: number of rounds in the checkpoint; later rounds are dropped.
      digest: `digest` of the log when the checkpoint was written; None if the
        checkpoint has no digest.

    Damaged lines are dropped, and named in a warning.

    Raises:
      UserError: the file is no file of measurements, or has a later format.
    """

    def __init__(
        self,
        path: pathlib.Path,
        *,
        completed_rounds: int = 0,
        digest: Optional[str] = None,
    ):
        self._path = path
        self._file: Optional[AppendedFile] = None
        self.names: dict[str, None] = {}
        self._hash = hashlib.sha256()
        rows, damaged = _lines(path)
        kept = [(n, values) for n, values in rows.items() if n <= completed_rounds]
        for _, values in kept:
            self.names.update(dict.fromkeys(values))
        lines = [_line(number, values) for number, values in kept]
        for line in lines:
            self._hash.update(line.encode())
        self._warn(completed_rounds, damaged, digest)
        if path.exists():
            self._open(lines)

    def _warn(self, completed: int, damaged: list[int], digest: Optional[str]) -> None:
        where = f" (lines {', '.join(map(str, damaged[:8]))})" if damaged else ""
        if digest is not None and digest != self.digest:
            warnings.warn(
                f"{self._path} was changed in its lines up to round "
                f"{completed}{where}: measurements were lost or changed and cannot be "
                "made again; the readable lines are kept",
                stacklevel=4,
            )
        elif damaged and (digest is None or completed == 0):
            warnings.warn(
                f"{self._path} has damaged lines{where}; these lines are dropped",
                stacklevel=4,
            )

    @property
    def digest(self) -> str:
        """SHA-256 of all rounds, for checkpoints."""
        return self._hash.hexdigest()

    def _open(self, lines: list[str]) -> None:
        header = json.dumps({"format": FORMAT}) + "\n"
        atomic.write(self._path, "".join([header, *lines]).encode())
        self._file = AppendedFile(self._path)

    def append(self, round_number: int, values: Mapping[str, np.ndarray]) -> None:
        """Adds a round; a round without measurements has no line."""
        if not values:
            return
        if self._file is None:
            self._open([])
        self.names.update(dict.fromkeys(values))
        line = _line(round_number, {n: encoded(v) for n, v in values.items()})
        self._hash.update(line.encode())
        if self._file is not None:
            self._file.append(line.encode())

    def sync(self) -> None:
        """Makes the rounds durable; call it before a checkpoint that needs them."""
        if self._file is not None:
            self._file.sync()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def _line(round_number: int, values: Mapping[str, Any]) -> str:
    words = json.dumps({"round": round_number, "values": values})
    return f'{words[:-1]}, "check": "{zlib.crc32(words.encode()):08x}"}}\n'
