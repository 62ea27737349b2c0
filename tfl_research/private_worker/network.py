"""Moves a process into its own network, and ends a process with its parent.

Python 3.12 has `os.unshare`; earlier versions need the C library.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
# An interface's name and its flags, in the 40 bytes of a request.
_REQUEST = "16sH22x"
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(parent: int, number: int) -> None:
    """Asks the kernel for a signal when the parent ends, also by kill -9.

    For the kernel, the parent is the thread that started this process.

    Args:
      parent: the parent's process id. If the parent has already ended, this process
        ends too.
      number: the number of the signal.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def isolate() -> None:
    """Moves this process into its own network, with a loopback interface.

    Sockets that are open stay in the network in which they were opened. The process
    must have one thread.

    Raises:
      OSError: the kernel does not allow it; the process keeps its network.
    """
    # A kernel can allow a namespace and then refuse to make it usable. A process
    # cannot leave a namespace again, so another process tries first.
    child = os.fork()
    if child == 0:
        try:
            _enter()
        except OSError as error:
            os._exit(min(error.errno or errno.EPERM, 255))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        code = code if code > 0 else errno.EPERM
        raise OSError(code, os.strerror(code))
    _enter()


def _enter() -> None:
    user, group = os.geteuid(), os.getegid()
    try:
        _unshare(_CLONE_NEWNET)
    except OSError:
        # Without root rights, a network namespace needs a user namespace.
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = struct.pack(_REQUEST, b"lo", 0)
        told = fcntl.ioctl(control, _SIOCGIFFLAGS, asked)
        flags = struct.unpack(_REQUEST, told)[1] | _IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack(_REQUEST, b"lo", flags))


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
