"""Local training by a site's process, asked for by an engine's job over a socket.

Runs in the engine's environment. A frame holds an .npz archive without pickles: the
model's arrays as `0000`, `0001` and so on, and `header`, a JSON text in bytes.
"""

import io
import json
import time

import numpy as np

try:
    from . import tfl_relay_frames as frames
except ImportError:
    import tfl_relay_frames as frames

# The site's process may be starting: TensorFlow takes a while.
_START_SECONDS = 120.0


def ask(path, kind, arrays, **header):
    """The reply of the site's process to "train" or "evaluate".

    Args:
      path: the site's training socket.
      kind: "train" or "evaluate".
      arrays: the model's arrays, in order.
      **header: further entries of the header.

    Returns:
      The reply's arrays and header: `examples`, and numbers under `metrics`.

    Raises:
      RuntimeError: the process cannot be reached, or says why it does not train.
    """
    end = time.monotonic() + _START_SECONDS
    while not frames.reachable(path) and time.monotonic() < end:
        time.sleep(0.5)
    reply = frames.ask(path, _packed(arrays, {**header, "kind": kind}))
    if not reply:
        raise RuntimeError(
            f"{path}: the site's process does not answer at this socket; start the site"
        )
    arrays, header = _unpacked(reply)
    if "error" in header:
        raise RuntimeError(header["error"])
    return arrays, header


def load(path):
    """The arrays of an .npz file, in the order of their names."""
    with np.load(path, allow_pickle=False) as archive:
        return [archive[name] for name in sorted(archive.files)]


def named(arrays):
    """The arrays by the names that they have in files and messages."""
    return {f"{position:04d}": array for position, array in enumerate(arrays)}


def _packed(arrays, header):
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode("utf-8"), np.uint8)
    np.savez(file, header=text, **named(arrays))
    return file.getvalue()


def _unpacked(data):
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        header = json.loads(archive["header"].tobytes().decode("utf-8"))
        names = sorted(set(archive.files) - {"header"})
        return [archive[name] for name in names], header
