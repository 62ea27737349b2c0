"""Messages that a relay has given to its site's process, and their replies.

A message of the engine may arrive twice, and may be answered before the site's process
is done. The site's process gets each message once.
"""

import threading

try:
    from . import tfl_relay_frames as frames
except ImportError:
    import tfl_relay_frames as frames

# Replies are kept a while, in case that one is lost on its way and asked for again.
_KEPT = 3


class Requests:
    """The latest messages for the site's process behind the socket `path`."""

    def __init__(self, path):
        self._path = path
        self._requests = {}
        self._lock = threading.Lock()

    def get(self, number, message):
        """Returns the request with this number; a new one if there is a message.

        Args:
          number: names the request; unique.
          message: bytes for the site's process, or None to look for a known request.

        Returns:
          A `Request`, or None if the number is unknown and there is no message.
        """
        with self._lock:
            if number not in self._requests and message is not None:
                for old in list(self._requests)[:-_KEPT]:
                    if self._requests[old].done.is_set():
                        del self._requests[old]
                self._requests[number] = Request(self._path, message)
            return self._requests.get(number)


class Request:
    """A message that the site's process has been given.

    Attributes:
      done: an event, which is set when the reply has come.
      reply: the reply's bytes; empty if the process could not be reached.
    """

    def __init__(self, path, message):
        self.done = threading.Event()
        self.reply = None
        threading.Thread(target=self._ask, args=(path, message), daemon=True).start()

    def _ask(self, path, message):
        try:
            self.reply = frames.ask(path, message)
        finally:
            # The engine's server waits, also if the message was not one.
            self.reply = self.reply or b""
            self.done.set()
