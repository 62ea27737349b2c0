"""measurements.jsonl: what each round measures beside numbers, such as vectors, texts.

A file of JSON lines, only in runs that have such measurements. The first line is
`{"format": 1}`. Each further line is a round:

    {"round": 3, "values": {"centers": {"dtype": "float32", "shape": [2, 2], "values":
    [0.5, 1.0, 2.0, "nan"]}}}

`values` are the elements in row-major order. Numbers that JSON has not are texts
("nan", "inf", "-inf"), and complex numbers are texts. Texts have the dtype "text";
bytes have the dtype "bytes", or "base64" where they are not UTF-8.
"""

from __future__ import annotations

import base64
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from tfl_research.errors import UserError
from tfl_research.storage import atomic

FORMAT = 1


def encoded(array: np.ndarray) -> dict[str, Any]:
    """The JSON values of an array."""
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
    """The array of `encoded`; types that NumPy has not become float32."""
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
    """The measurements by round and name; none without the file.

    A last line that a kill cut off is left out.

    Raises:
      UserError: the file is damaged or of a later format.
    """
    try:
        return {
            round_number: {name: decoded(value) for name, value in values.items()}
            for round_number, values in _lines(path)
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def _lines(path: pathlib.Path) -> list[tuple[int, dict[str, Any]]]:
    if not path.exists():
        return []
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(path, error) from error
    lines = content[: content.rfind("\n") + 1].splitlines()
    if not lines:
        return []
    try:
        header, *rows = [json.loads(line) for line in lines]
        if header != {"format": FORMAT}:
            raise UserError(
                f"{path} has the header {header}, expected format {FORMAT}; take the "
                "version that wrote it"
            )
        return [(int(row["round"]), dict(row["values"])) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is no file of measurements ({error}); restore it, or move it away to "
        "go on without the rounds in it"
    )


class MeasurementsLog:
    """Appends rounds to measurements.jsonl, and flushes each.

    Opening drops the rounds after the checkpoint from which the run resumes.

    Args:
      path: the file; made when the first round has measurements.
      completed_rounds: rounds of the checkpoint; later rounds are dropped.

    Raises:
      UserError: see `read`.
    """

    def __init__(self, path: pathlib.Path, *, completed_rounds: int = 0):
        self._path = path
        self._file: Optional[Any] = None
        self.names: dict[str, None] = {}
        kept = [line for line in _lines(path) if line[0] <= completed_rounds]
        for _, values in kept:
            self.names.update(dict.fromkeys(values))
        if path.exists():
            self._open([_line(number, values) for number, values in kept])

    def _open(self, lines: list[str]) -> None:
        header = json.dumps({"format": FORMAT}) + "\n"
        atomic.write(self._path, "".join([header, *lines]).encode())
        self._file = self._path.open("a", encoding="utf-8", newline="")

    def append(self, round_number: int, values: Mapping[str, np.ndarray]) -> None:
        """Adds a round; a round without measurements has no line."""
        if not values:
            return
        if self._file is None:
            self._open([])
        self.names.update(dict.fromkeys(values))
        line = _line(round_number, {n: encoded(v) for n, v in values.items()})
        if self._file is not None:
            self._file.write(line)
            self._file.flush()

    def sync(self) -> None:
        """Makes the rounds durable; call it before a checkpoint that needs them."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def _line(round_number: int, values: Mapping[str, Any]) -> str:
    return json.dumps({"round": round_number, "values": values}) + "\n"
