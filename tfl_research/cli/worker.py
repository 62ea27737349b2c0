"""Runs scripts/worker: a TFF worker for experiments with --runtime=remote."""

from __future__ import annotations

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import argparse
import importlib.util
import ipaddress
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Optional, Union

from tfl_research.private_worker import keeper
from tfl_research.storage import provenance

_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
_LOOPBACK = "127.0.0.1"
_USAGE_ERROR = 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        """Ends the program with one line, as the experiments' binaries do."""
        self.exit(_USAGE_ERROR, f"error: {message}\n")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) < 2**16:
        raise ValueError("must be a whole number from 1 to 65535")
    return int(text)


def _address(text: str) -> _Address:
    try:
        return ipaddress.ip_address(
            _LOOPBACK if text == "localhost" else text.strip("[]")
        )
    except ValueError:
        raise ValueError(
            f"must be an IP address of this machine, as {_LOOPBACK} or 10.0.0.7, or "
            "0.0.0.0 for all of them"
        ) from None


def _binary() -> pathlib.Path:
    """Returns the path of TFF's worker, without importing TFF."""
    found = importlib.util.find_spec("tensorflow_federated")
    if found is None or found.origin is None:
        raise FileNotFoundError(
            "TensorFlow Federated is not installed; install it with pip install "
            "tfl_research"
        )
    return pathlib.Path(found.origin).parent / "data" / "worker_binary"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs a worker until Ctrl-C or SIGTERM; returns the exit code."""
    parser = _Parser(
        prog="scripts/worker",
        description="Runs a TFF worker for experiments with --runtime=remote, until "
        "Ctrl-C. A worker has no encryption and no authentication: it executes what "
        "anybody sends who can reach its port. On a loopback address it refuses other "
        "users of this machine.",
        allow_abbrev=False,
    )
    parser.add_argument("--port", required=True, help="port to listen on")
    parser.add_argument(
        "--bind",
        default=_LOOPBACK,
        metavar="ADDRESS",
        help=(
            "address to listen at, %(default)s by default; give another address only "
            "in networks whose machines trust each other"
        ),
    )
    flags = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    for name, check in (("port", _port), ("bind", _address)):
        text = vars(flags)[name]
        try:
            found[name] = check(text)
        except ValueError as error:
            parser.error(f"--{name}={text}: {error}")
    if not found["bind"].is_loopback:
        sys.stderr.write(
            f"warning: --bind={flags.bind}: the worker has no authentication and no "
            "encryption: whoever reaches the port can run programs as you, and "
            "whoever sees the network reads clients' data\n"
        )
    return _run(**found)


def _run(port: int, bind: _Address) -> int:
    host = f"[{bind}]" if bind.version == 6 else f"{bind}"
    errors: list[str] = []

    def say(**content: Any) -> None:
        if "error" in content:
            errors.append(content["error"])
            return
        line = provenance.rounding_line()
        if line is not None:
            sys.stderr.write(f"warning: {line}\n")
        sys.stderr.write(f"A TFF worker listens on {content['address']}.\n")

    def run(isolated: bool) -> int:
        return keeper.keep(
            str(_binary()),
            f"{host}:{port}",
            say,
            renews=True,
            isolated=isolated,
            goodbye="interrupted\n",
        )

    code = run(isolated=True)
    if code == keeper.NOT_ISOLATED and bind.is_unspecified:
        # This worker listens on all interfaces in any case.
        code = run(isolated=False)
    if code == keeper.NOT_ISOLATED:
        sys.stderr.write(
            f"error: --bind={bind}: the kernel allows no network namespace "
            f"({errors[-1]}), so TFF's worker would listen on all interfaces; give "
            "--bind=0.0.0.0 to accept that\n"
        )
    elif code == keeper.NOT_LISTENING:
        sys.stderr.write(
            f"error: --bind={bind} --port={port}: {errors[-1]}; give another port\n"
        )
    return _USAGE_ERROR if errors and code != 0 else code


if __name__ == "__main__":
    sys.exit(main())
