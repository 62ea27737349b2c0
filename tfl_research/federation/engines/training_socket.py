"""A socket at which an engine's job hands weights to a site's process for training.

For jobs in which FLARE or Flower averages. The socket is in the folder of the site's
own socket, and takes frames (`wire.sockets`) of .npz archives without pickles: the
model's arrays as `0000`, `0001` and so on, and `header`, a JSON text in bytes. A
request's header has `kind`, "train" or "evaluate", and `round`, from 1; a reply's has
`examples` and `metrics`, or `error`. Only processes of this user can connect. What they
send comes from the engine's server: the archive must be as long as its arrays.
"""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
import selectors
import threading
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tfl_research import errors
from tfl_research.federation.wire import sockets
from tfl_research.federation.wire.handler import Refused

# Longer than any model that fits into an engine's message.
_LIMIT_BYTES = 4 << 30
_LOOK_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Trained:
    """The answer of a site that trained or evaluated a model.

    Attributes:
      weights: the model after training, as a list of arrays; empty for an evaluation.
      examples: number of examples on which the site trained or evaluated.
      metrics: metrics of the received model, by name.
    """

    weights: Sequence[np.ndarray]
    examples: int
    metrics: Mapping[str, float]


class Trainer(Protocol):
    """Trains and evaluates a model on a site's data."""

    def train(self, weights: Sequence[np.ndarray], round_number: int) -> Trained:
        """The model after a round's local training.

        Args:
          weights: the weights of the model, as a list of arrays.
          round_number: the number of the round, from 1.

        Raises:
          Refused: the weights do not fit; the engine's log gets the reason. The reason
            of another error may quote data, and stays at the site.
        """
        ...

    def evaluate(self, weights: Sequence[np.ndarray]) -> Trained:
        """The metrics of the model on the site's data."""
        ...


class TrainingServer:
    """Answers an engine's jobs, one request at a time.

    Args:
      path: the path of the socket, which is made.
      trainer: trains and evaluates.
      say: prints a line about each request.

    Raises:
      UserError: another process listens at the path, or the socket cannot be made.
    """

    def __init__(
        self, path: pathlib.Path, trainer: Trainer, say: Callable[[str], None] = print
    ):
        self._trainer = trainer
        self._say = say
        self._stopped = threading.Event()
        self._listener = sockets.Listener(path, _LIMIT_BYTES)

    def serve(self) -> None:
        """Answers requests until `stop`."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener.socket, selectors.EVENT_READ)
            while not self._stopped.is_set():
                for key, events in selector.select(_LOOK_SECONDS):
                    if key.data is None:
                        self._accept(selector)
                    else:
                        self._go_on(selector, key.data, events)
        self._listener.close()

    def stop(self) -> None:
        """Ends `serve`, from another thread or a signal's handler."""
        self._stopped.set()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            connection = self._listener.accept()
        except sockets.FrameError as error:
            self._say(str(error))
            return
        if connection is not None:
            selector.register(connection.socket, selectors.EVENT_READ, connection)

    def _go_on(
        self,
        selector: selectors.BaseSelector,
        connection: sockets.Connection,
        events: int,
    ) -> None:
        try:
            if events & selectors.EVENT_READ:
                for frame in connection.frames():
                    connection.put(self._reply(frame))
            connection.flush()
        except (OSError, EOFError, sockets.FrameError):
            selector.unregister(connection.socket)
            connection.close()
            return
        waits = selectors.EVENT_WRITE if connection.sends else 0
        selector.modify(connection.socket, selectors.EVENT_READ | waits, connection)

    def _reply(self, frame: bytes) -> bytes:
        try:
            weights, header = _unpacked(frame)
            kind, number = header.get("kind"), header.get("round")
            if type(number) is not int or number < 1:
                raise Refused(f"round {number!r}: must be a whole number of at least 1")
            if kind == "train":
                self._say(f"round {number}: training for the engine's job")
                done = self._trainer.train(weights, number)
            elif kind == "evaluate":
                done = self._trainer.evaluate(weights)
            else:
                raise Refused(f"the request is {kind!r}; expected train or evaluate")
        except Refused as error:
            self._say(f"refused: {error}")
            return _packed([], {"error": str(error)})
        except Exception as error:  # noqa: BLE001 -- the site must go on
            self._say(f"failed: {type(error).__name__}: {error}")
            text = (
                "its own data or computation failed; the site's output has the reason"
            )
            return _packed([], {"error": text})
        return _packed(
            done.weights, {"examples": done.examples, "metrics": {**done.metrics}}
        )


def save_weights(path: pathlib.Path, weights: Sequence[np.ndarray]) -> None:
    """Writes a model as a list of arrays, as jobs and apps read them."""
    np.savez(path, **_named(weights))


def load_weights(path: pathlib.Path) -> list[np.ndarray]:
    """A model as `save_weights`, a job or an app wrote it.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [archive[name] for name in sorted(archive.files)]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise errors.UserError(f"{path} does not hold a model: {error}") from error


def _named(weights: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{position:04d}": array for position, array in enumerate(weights)}


def _packed(weights: Sequence[np.ndarray], header: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode("utf-8"), np.uint8)
    np.savez(file, header=text, **_named(weights))
    return file.getvalue()


def _unpacked(data: bytes) -> tuple[list[np.ndarray], dict[str, Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            # A short archive could else take any amount of memory.
            if any(m.compress_type != zipfile.ZIP_STORED for m in members.infolist()):
                raise ValueError("it is compressed")
            if sum(member.file_size for member in members.infolist()) > len(data):
                raise ValueError("its arrays are longer than the archive")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes().decode("utf-8"))
            names = sorted(set(archive.files) - {"header"})
            weights = [archive[name] for name in names]
    except Exception as error:  # zipfile raises errors of many types
        raise Refused(f"the request cannot be read: {error}") from error
    if not isinstance(header, dict):
        raise Refused("the request's header must be a table")
    return weights, header
