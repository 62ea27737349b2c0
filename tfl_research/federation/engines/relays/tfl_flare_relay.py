"""NVIDIA FLARE as a carrier: bytes between the coordinator and the sites' processes.

A FLARE job of two classes: `CoordinatorRelay` is the server's workflow, `SiteRelay` an
executor of each site. The startup kits hold both in `local/custom`, beside the
`tfl_relay_*.py` files, and the sites allow their names. The job is configuration:
the server sends no code. `local/tfl_relay.json` of a kit names the socket.

The relay uses FLARE's messages between the processes of a job, not its tasks: a site
would look for a task twice a second, and a message arrives at once.
"""

import json
import threading
import time
import uuid

import tfl_relay_frames as frames
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable, make_reply
from tfl_relay_coordinator import Coordinator
from tfl_relay_requests import Requests

_TOPIC = "tfl_relay"
# A site's relay answers within this time that it still waits, so that the server
# notices within a minute when the site has gone, however long a round takes.
_WAIT_SECONDS = 15.0
_REPLY_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 100_000
_LOOK_SECONDS = 2.0
_FIRST_LOOK_SECONDS = 0.3
_START_SECONDS = 30.0
_LOST_REPLIES = 2


def _socket_path(fl_ctx):
    engine = fl_ctx.get_engine()
    path = engine.get_workspace().get_file_path_in_site_config("tfl_relay.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)["socket"]


class CoordinatorRelay(Controller):
    """The workflow at FLARE's server: asks sites what the coordinator asks."""

    def start_controller(self, fl_ctx):
        """Nothing to do before the workflow runs."""

    def stop_controller(self, fl_ctx):
        """Nothing to do after the workflow has ended."""

    def process_result_of_unknown_task(
        self, client, task_name, client_task_id, result, fl_ctx
    ):
        """There are no tasks."""

    def control_flow(self, abort_signal, fl_ctx):
        """Relays until the job is aborted."""
        engine = fl_ctx.get_engine()

        def stopped():
            return abort_signal.triggered

        def send(names, content, seconds):
            request = Shareable()
            request.update(content)
            with engine.new_context() as context:
                replies = engine.send_aux_request(
                    names, _TOPIC, request, seconds, context, optional=True
                )
            return {
                name: reply
                for name, reply in (replies or {}).items()
                if reply.get_return_code() == ReturnCode.OK
            }

        def ask(name, message):
            content = {"number": uuid.uuid4().hex, "message": message}
            seconds = _REPLY_SECONDS + len(message) / _SLOWEST_BYTES_PER_SECOND
            lost = 0
            while not stopped() and lost < _LOST_REPLIES:
                reply = send([name], content, seconds).get(name)
                if reply is None:
                    lost += 1
                    continue
                lost = 0
                # The site decides what the reply has, so any entry may be missing.
                if not reply.get("known"):
                    break  # The site's relay began anew in the meantime.
                content = {"number": content["number"], "message": None}
                if reply.get("reply") is not None:
                    return reply["reply"]
            print(f"{name}: cannot be reached", flush=True)
            return b""

        coordinator = Coordinator(_socket_path(fl_ctx), ask)
        started = threading.Event()

        def look():
            until = time.monotonic() + _START_SECONDS
            while not stopped():
                names = [client.name for client in engine.get_clients()]
                replies = send(names, {"number": None}, _WAIT_SECONDS)
                coordinator.announce(
                    {name for name, reply in replies.items() if reply.get("listens")}
                )
                if len(replies) == len(names) or time.monotonic() > until:
                    started.set()
                time.sleep(_LOOK_SECONDS if started.is_set() else _FIRST_LOOK_SECONDS)

        threading.Thread(target=look, daemon=True).start()
        # A site with a relay that has not started yet does not count as a site that
        # cannot be reached.
        while not started.wait(1.0) and not stopped():
            pass
        coordinator.serve(stopped)


class SiteRelay(Executor):
    """The executor at a site: hands messages to the site's process."""

    def __init__(self):
        super().__init__()
        self._path = None
        self._requests = None

    def handle_event(self, event_type, fl_ctx):
        """Listens for messages when the job starts."""
        if event_type == EventType.START_RUN:
            self._path = _socket_path(fl_ctx)
            self._requests = Requests(self._path)
            fl_ctx.get_engine().register_aux_message_handler(_TOPIC, self._handle)

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        """Refuses tasks: this job has none."""
        return make_reply(ReturnCode.TASK_UNKNOWN)

    def _handle(self, topic, request, fl_ctx):
        reply = make_reply(ReturnCode.OK)
        number = request["number"]
        if number is None:
            reply["listens"] = frames.reachable(self._path)
            return reply
        asked = self._requests.get(number, request["message"])
        reply["known"] = asked is not None
        done = asked is not None and asked.done.wait(_WAIT_SECONDS)
        reply["reply"] = asked.reply if done else None
        return reply
