"""A site's server, which answers the coordinator's requests.

Requests are handled one after the other. A repeated request gets the kept reply. Bytes
that are no request of this site's coordinator are refused.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import selectors
import socket
import time
import traceback
from collections.abc import Callable
from typing import Union

from tfl_research.errors import UserError
from tfl_research.federation.site.site_requests import (
    Question,
    Requests,
    remove_questions,
)
from tfl_research.federation.wire import authentication, questions
from tfl_research.federation.wire.authentication import (
    NOTHING,
    AuthenticationError,
    Seal,
    check_name,
)
from tfl_research.federation.wire.handler import FAILED, REFUSED, Handler, Refused
from tfl_research.federation.wire.messages import (
    LIMIT_BYTES,
    Message,
    MessageError,
    decode,
    encode,
)
from tfl_research.federation.wire.sockets import (
    Connection,
    FrameError,
    Listener,
    locked,
    private_folder,
)
from tfl_research.interrupts import Interrupt, raised_on_signals

# The file in the site's folder for tracebacks of handlers and the server.
ERRORS_FILE = "errors.log"
_OPEN_RUNS = 8


def run_folder(state_folder: pathlib.Path, run: str) -> pathlib.Path:
    """The folder of a run at a site.

    Raises:
      UserError: `run` is no id of a run.
    """
    return state_folder / "runs" / check_name(run, "the run's id")


class SiteServer:
    """Listens at a socket and answers requests; close it in the end.

    Example:
      >>> import pathlib, threading
      >>> from tfl_research.federation.wire.messages import Message
      >>> from tfl_research.federation.site.site_server import SiteServer
      >>> class Echo:
      ...     def handle(self, request):
      ...         return Message(request.kind, {}, request.tensors)
      >>> folder = pathlib.Path("nord")
      >>> server = SiteServer(folder / "site.sock", "nord", bytes(32), folder)
      >>> serving = threading.Thread(target=server.run, args=(Echo(),))
      >>> serving.start()
      >>> server.stop()
      >>> serving.join()
      >>> server.close()
    """

    def __init__(
        self,
        socket_path: pathlib.Path,
        site: str,
        key: bytes,
        state_folder: pathlib.Path,
        say: Callable[[str], None] = print,
        *,
        limit_bytes: int = LIMIT_BYTES,
    ):
        """Listens; requests wait until `run`.

        Args:
          socket_path: the path of the site's socket, in a folder that only this user
            can enter.
          site: the site's name.
          key: the key that the site shares with the coordinator.
          state_folder: a folder that only this user can enter, for the folders of runs
            and `errors.log`.
          say: prints a line about each refusal.
          limit_bytes: the length of the longest accepted request.

        Raises:
          UserError: another process listens at the path or uses the state folder, or a
            folder does not fit.
        """
        self.site = check_name(site, "the site's name")
        self._key = key
        self._folder = state_folder
        self._say = say
        self._limit = limit_bytes
        self._runs: dict[str, Union[Requests, Question]] = {}
        private_folder(state_folder)
        private_folder(state_folder / "runs")
        # Another process could answer a request that was answered here.
        self._lock = locked(
            state_folder / "lock", f"another process serves a site from {state_folder}"
        )
        try:
            self._listener = Listener(socket_path, limit_bytes)
        except BaseException:
            os.close(self._lock)
            raise
        # Nobody else serves the site now.
        remove_questions(state_folder / "runs")
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener.socket, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ, self)

    def run(self, handler: Handler) -> None:
        """Answers requests until `stop`."""
        while True:
            for key, _ in self._selector.select():
                if key.data is self:
                    self._woken.recv(1)
                    return
                if key.data is None:
                    self._accept()
                else:
                    self._serve(key.data, handler)

    def stop(self) -> None:
        """Ends `run` after the present request; may be called in another thread."""
        self._wake.send(b".")

    def close(self) -> None:
        """Closes the socket and the files."""
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, Connection):
                key.data.close()
        self._selector.close()
        self._wake.close()
        self._woken.close()
        for requests in self._runs.values():
            requests.close()
        self._listener.close()
        os.close(self._lock)

    def _accept(self) -> None:
        try:
            connection = self._listener.accept()
        except FrameError as error:
            self._say(f"refused a connection: {error}")
            return
        if connection is not None:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def _serve(self, connection: Connection, handler: Handler) -> None:
        """Receives, answers and sends what is ready."""
        try:
            connection.flush()
            for payload in connection.frames():
                connection.put(self.answer(payload, handler))
                connection.flush()
            events = selectors.EVENT_WRITE if connection.sends else 0
            self._selector.modify(
                connection.socket, selectors.EVENT_READ | events, connection
            )
        except FrameError as error:
            self._say(f"refused a request: {error}")
            connection.put(authentication.no_reply(str(error)))
            connection.drop_rest()
            self._serve(connection, handler)
        except (OSError, EOFError):
            self._selector.unregister(connection.socket)
            connection.close()

    def answer(self, payload: bytes, handler: Handler) -> bytes:
        """Returns the sealed reply to a sealed request, after writing it to disk."""
        try:
            seal, body = authentication.opened(payload, self._key)
            self._check(seal)
            requests = self._requests(seal.run)
            kept = requests.taken(seal.sequence, payload)
        except UserError as error:
            self._say(f"refused a request: {error}")
            return authentication.no_reply(str(error))
        if kept is not None:
            self._say(
                f"request {seal.sequence} of the run {seal.run} came again: the site "
                "sends the kept reply again"
            )
            return kept
        reply_seal = Seal(
            True, self.site, seal.run, seal.sequence, authentication.mac_of(payload)
        )
        content = self._handled(seal.run, body, handler)
        reply = authentication.sealed(content, self._key, reply_seal)
        try:
            requests.keep(reply)
        except OSError as error:
            self._say(
                f"cannot keep the reply to request {seal.sequence} "
                f"({error.strerror}): if the request comes again, the site computes "
                "again"
            )
        return reply

    def _check(self, seal: Seal) -> None:
        if seal.is_reply or seal.answered != NOTHING:
            raise AuthenticationError("the message is a reply, but sites get requests")
        if seal.site != self.site:
            raise AuthenticationError(
                f"the request is for the site {seal.site!r}, but this site is "
                f"{self.site!r}"
            )
        check_name(seal.run, "the run's id")

    def _requests(self, run: str) -> Union[Requests, Question]:
        """The run's requests, whose files stay open for the latest runs."""
        requests = self._runs.pop(run, None)
        if requests is None and questions.is_id(run):
            requests = Question()
        elif requests is None:
            requests = Requests(run_folder(self._folder, run), self._key)
        self._runs[run] = requests
        if len(self._runs) > _OPEN_RUNS:
            self._runs.pop(next(iter(self._runs))).close()
        return requests

    def _handled(self, run: str, body: bytes, handler: Handler) -> bytes:
        """The reply's message, encoded."""
        kind, fields = FAILED, {"run": run, "round": 0}
        try:
            request = decode(body, self._limit)
            kind = request.kind
            fields["round"] = request.integer("round")
            request.integer("completed")
            if request.text("run") != run:
                raise MessageError(
                    f"the message is for the run {request.text('run')[:64]!r}, but "
                    f"its seal is for {run!r}"
                )
            if questions.is_id(run) and kind != questions.KIND:
                raise MessageError(
                    f"{run[:64]!r} is the id of a question; a run needs another id"
                )
            reply = handler.handle(request)
            if reply.kind != kind:
                raise TypeError(f"the handler answers {kind!r} by {reply.kind!r}")
            return encode(Message(kind, {**reply.header, **fields}, reply.tensors))
        except (Refused, MessageError) as error:
            self._say(f"refused {kind!r} of round {fields['round']}: {error}")
            fields["reason"] = str(error)
            return encode(Message(REFUSED, fields))
        except Exception as error:  # noqa: BLE001 -- the site must go on
            self._say(
                f"failed at {kind!r} of round {fields['round']}: "
                f"{type(error).__name__}: {error}"
            )
            self._note(traceback.format_exc())
            fields["reason"] = (
                f"{type(error).__name__}; the site's {ERRORS_FILE} has the details"
            )
            return encode(Message(FAILED, fields))

    def _note(self, text: str) -> None:
        """Adds a traceback to the site's file of errors."""
        path, flags = self._folder / ERRORS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # A full disk must not end the site's process.
        with (
            contextlib.suppress(OSError),
            os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file,
        ):
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}\n")


def serve(
    socket_path: pathlib.Path,
    site: str,
    key: bytes,
    opened_handler: Callable[[], Handler],
    *,
    state_folder: pathlib.Path,
    say: Callable[[str], None] = print,
    limit_bytes: int = LIMIT_BYTES,
) -> None:
    """Serves a site until SIGINT or SIGTERM; a site that is killed loses nothing.

    The site listens first, and then calls `opened_handler`. The call may take long, and
    requests wait for it.

    Args:
      socket_path, site, key, state_folder, say, limit_bytes: see `SiteServer`.
      opened_handler: makes the handler, once.

    Raises:
      UserError: the socket or a folder does not fit, or `opened_handler` raised it.
    """
    server = SiteServer(
        socket_path, site, key, state_folder, say, limit_bytes=limit_bytes
    )
    try:
        with raised_on_signals():
            say(f"site {site} listens at {socket_path}")
            server.run(opened_handler())
    except Interrupt as interrupt:
        say(f"site {site} ends: {interrupt}")
    finally:
        server.close()
