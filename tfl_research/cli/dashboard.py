"""A live page about the runs in a folder: scripts/dashboard FOLDER."""

from __future__ import annotations

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

from tfl_research.cli import last_resort
from tfl_research.cli.arguments import Parser
from tfl_research.private_worker import door
from tfl_research.report.dashboard import access
from tfl_research.report.dashboard.watched import Watched

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

PORT = 8765
_WHAT = """Serves a live page about the runs in a folder: their progress, their curves,
and what is spent and left of the budgets of shared ledgers. The program only reads
files. By default only this machine can reach the page. With another --host, a visitor
needs the token that the program prints. The token travels over plain HTTP."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="scripts/dashboard", description=_WHAT)
    parser.add_argument("folder", help="a folder that contains runs, at any depth")
    parser.add_argument(
        "--port",
        type=int,
        default=PORT,
        help=f"port to listen on; 0 takes any free port (default: {PORT})",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1)",
    )
    return parser


def server(folder: str, host: str, port: int) -> tuple[BaseWSGIServer, Optional[str]]:
    """Makes a server that is bound to its port; returns server and token.

    The token is None on loopback.

    Raises:
      ValueError: the folder does not exist, or the port is out of range.
      OSError: the port is taken, or the address does not belong to this machine.
      ImportError: a package of the extra `plots` is not installed.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"--port={port}: must be from 0 to {2**16 - 1}")
    watched = Watched(folder)
    # These imports are slow, and only a server needs them.
    from werkzeug.serving import WSGIRequestHandler, make_server

    from tfl_research.report.dashboard.app import Dashboard

    class Quiet(WSGIRequestHandler):
        """A request handler that logs no requests."""

        def log(self, type: str, message: str, *arguments: Any) -> None:
            pass

    token = None if access.is_loopback(host) else access.new_token()
    application = Dashboard(watched, token)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # This binds the port, since the server would print long texts if it is taken.
    with socket.create_server((host, port), family=family) as bound:
        made = make_server(
            host,
            port,
            application,
            threaded=True,
            request_handler=Quiet,
            fd=bound.fileno(),
        )
    if token is None:
        # All users of this machine can reach a loopback port.
        tables = door.open_tables()
        allowed = {os.geteuid(), 0}

        def verify(request: socket.socket, peer: Any) -> bool:
            ours = request.getsockname()[1]
            return door.owners(tables, peer[1], ours) <= allowed

        made.verify_request = verify  # type: ignore[method-assign,assignment]
    return made, token


def address(made: BaseWSGIServer, token: Optional[str]) -> str:
    """Returns the address to open in a browser."""
    name = f"[{made.host}]" if ":" in made.host else made.host
    query = "" if token is None else f"?{access.PARAMETER}={token}"
    return f"http://{name}:{made.port}/{query}"


def main(arguments: Sequence[str]) -> int:
    """Serves until the process is interrupted.

    Returns:
      The exit code: 0 after Ctrl-C; 2, with a line on stderr, if the folder, host or
      port cannot be used.
    """
    given = _parser().parse_args(arguments)
    return last_resort.guarded("dashboard", lambda: _serve(given))


def _serve(given: argparse.Namespace) -> int:
    try:
        made, token = server(given.folder, given.host, given.port)
    except ImportError as error:
        return _refused(
            f"{error.name} is not installed; install the extra 'plots': pip install "
            "'tfl_research[plots]'"
        )
    except OSError as error:
        where = f"--host={given.host} --port={given.port}"
        return _refused(
            f"{where}: {error.strerror}; choose another --port (0 for any) or --host"
        )
    except ValueError as error:
        return _refused(str(error))
    sys.stdout.write(f"{address(made, token)}  (Ctrl-C ends it)\n")
    sys.stdout.flush()
    if threading.current_thread() is threading.main_thread():
        # The sockets are closed before the program ends.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        made.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        made.server_close()
    return 0


def _refused(message: str) -> int:
    return last_resort.say("dashboard", message, last_resort.USAGE_ERROR)


if __name__ == "__main__":
    last_resort.exit_with("dashboard", main)
