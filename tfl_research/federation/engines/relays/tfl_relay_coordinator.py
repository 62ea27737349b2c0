"""The coordinator's socket, as the relay at an engine's server sees it.

This file runs in the engine's environment, together with `tfl_relay_frames`.
"""

import select
import struct
import threading
import time

try:
    from . import tfl_relay_frames as frames
except ImportError:
    import tfl_relay_frames as frames

_ENVELOPE = struct.Struct(">H")
_NUMBER = struct.Struct(">Q")
# How long a relay waits before it tries again to reach a coordinator that does not
# answer.
_PAUSE = 0.3
# The longest message that the coordinator takes, as in `wire.messages`.
_LONGEST_REPLY = 1 << 30
# How bytes begin that say why there is no reply, as in `wire.authentication`.
_NO_REPLY = b"tflunfit"


class Coordinator:
    """The coordinator's socket, as the engine's server sees it.

    The coordinator asks and the relay answers. Requests to several sites run at once.
    A coordinator that went away and came back is told of the sites again, and repeats
    its open requests.

    Args:
      path: the coordinator's socket.
      ask: called with a site's name and a message, in a thread of its own; returns the
        site's reply, or no bytes if the site cannot be reached. The site decides what
        the reply is, so it may be of any type and length.
    """

    def __init__(self, path, ask):
        self._path = path
        self._ask = ask
        self._connection = None
        self._sites = None
        self._sending = threading.Lock()

    def announce(self, sites):
        """Says which sites can be reached now, if they have changed."""
        if sites != self._sites:
            self._sites = sites
            self._announce(self._connection)

    def serve(self, stopped):
        """Answers the coordinator's requests until `stopped()`."""
        while not stopped():
            try:
                connection = frames.connect(self._path)
            except OSError:
                time.sleep(_PAUSE)
                continue
            print(f"{self._path}: the coordinator is there", flush=True)
            try:
                self._answer(connection, stopped)
            except OSError as error:
                print(f"{self._path}: the coordinator has gone ({error})", flush=True)
            finally:
                with self._sending:
                    self._connection = None
                connection.close()

    def _answer(self, connection, stopped):
        with self._sending:
            self._connection = connection
        if self._sites is not None:
            self._announce(connection)
        while not stopped():
            # A frame that has begun is read whole; between frames, look at `stopped`.
            if not select.select([connection], [], [], 1.0)[0]:
                continue
            frame = frames.receive(connection)
            thread = threading.Thread(
                target=self._reply, args=(connection, frame), daemon=True
            )
            thread.start()

    def _reply(self, connection, frame):
        (length,) = _ENVELOPE.unpack_from(frame)
        begin = _ENVELOPE.size + length
        name = frame[_ENVELOPE.size : begin].decode("utf-8")
        body = begin + _NUMBER.size
        self._send(connection, frame[:body], self._asked(name, frame[body:]))

    def _asked(self, name, message):
        """The site's reply; no bytes or a reason if it is none that can be carried."""
        try:
            reply = self._ask(name, message)
        except Exception as error:  # noqa: BLE001 -- the other sites must go on
            print(f"{name}: no answer ({type(error).__name__}: {error})", flush=True)
            return b""
        if not isinstance(reply, bytes):
            print(f"{name}: the reply is a {type(reply).__name__}", flush=True)
            return _NO_REPLY + b"the reply is not bytes"
        if len(reply) > _LONGEST_REPLY:
            print(f"{name}: the reply has {len(reply)} bytes", flush=True)
            return _NO_REPLY + b"a reply of %d bytes, above the limit of %d" % (
                len(reply),
                _LONGEST_REPLY,
            )
        return reply

    def _announce(self, connection):
        names = "\n".join(sorted(self._sites)).encode("utf-8")
        self._send(connection, b"sites\n", names)

    def _send(self, connection, *parts):
        """Sends a frame, unless the coordinator has a new connection or none."""
        with self._sending:
            if connection is not None and connection is self._connection:
                try:
                    frames.send(connection, *parts)
                except OSError as error:
                    print(f"{self._path}: a frame was lost ({error})", flush=True)
