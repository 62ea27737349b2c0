"""The server's side: asks sites what the coordinator asks."""

import threading
import time

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import ServerApp

from flower_relay.tfl_relay_coordinator import Coordinator

# Flower holds a message for a node this long; a round at a site may take as long.
_SECONDS = 24 * 3600.0
# A node that has not said its name by then is asked again.
_NAME_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_PULL_SECONDS = 0.1

app = ServerApp()


@app.main()
def main(grid, context):
    """Relays until the run is stopped."""
    path = str(context.run_config["coordinator-socket"])
    nodes = Nodes(grid)
    coordinator = Coordinator(path, nodes.ask)

    def look():
        while True:
            coordinator.announce(nodes.sites())
            time.sleep(_LOOK_SECONDS)

    threading.Thread(target=look, daemon=True).start()
    # A site that has not said its name yet is no site that cannot be reached.
    minimum = int(context.run_config["minimum-sites"])
    while len(nodes.names) < minimum:
        time.sleep(_PULL_SECONDS)
    coordinator.serve(lambda: False)


class Nodes:
    """The connected nodes by the names of their sites.

    Attributes:
      names: the site of each node, by the node's number.
    """

    def __init__(self, grid):
        self.names = {}
        self._grid = grid
        # Flower's connection is not made for several threads.
        self._lock = threading.Lock()

    def sites(self):
        """The sites whose nodes are connected; asks new nodes for their names."""
        present = self._present()
        for node in present - set(self.names):
            reply = self._exchange(node, ConfigRecord({}), _NAME_SECONDS)
            if reply is not None:
                self.names[node] = str(reply["site"])
                print(f"node {node} is site {self.names[node]}", flush=True)
        return {name for node, name in self.names.items() if node in present}

    def ask(self, name, message):
        """The reply of a site's process, or no bytes if it cannot be reached."""
        present = self._present()
        for node, site in self.names.items():
            if site == name and node in present:
                request = ConfigRecord({"message": message})
                reply = self._exchange(node, request, _SECONDS)
                return b"" if reply is None else reply["reply"]
        print(f"{name}: no node of this site is connected", flush=True)
        return b""

    def _present(self):
        with self._lock:
            return set(self._grid.get_node_ids())

    def _exchange(self, node, request, seconds):
        message = Message(
            content=RecordDict({"relay": request}),
            dst_node_id=node,
            message_type=MessageType.QUERY,
            ttl=seconds,
        )
        with self._lock:
            pushed = [*self._grid.push_messages([message])]
        until = time.monotonic() + seconds
        looked = time.monotonic()
        while pushed and pushed[0] and time.monotonic() < until:
            with self._lock:
                replies = [*self._grid.pull_messages(pushed)]
            if replies:
                reply = replies[0]
                if reply.has_error():
                    print(f"node {node}: {reply.error.reason}", flush=True)
                    return None
                return reply.content.config_records["relay"]
            if time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                if node not in self._present():
                    print(f"node {node} has gone", flush=True)
                    return None
            time.sleep(_PULL_SECONDS)
        return None
