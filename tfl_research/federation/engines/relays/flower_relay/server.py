"""The server's side: asks sites what the coordinator asks."""

import collections
import re
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
# As in `wire.authentication`.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

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

    A node says its name by itself. So a node may say no name, or that of another site.
    The seals of the messages show who has answered.

    Attributes:
      names: the site of each node, by the node's number.
    """

    def __init__(self, grid):
        self.names = {}
        self._grid = grid
        # The nodes that have been asked for their names.
        self._asked = set()
        # How often each site was asked.
        self._turns = collections.Counter()
        # Flower's connection is not made for several threads.
        self._lock = threading.Lock()

    def sites(self):
        """The sites whose nodes are connected; asks new nodes for their names."""
        present = self._present()
        for node in present - self._asked:
            # A node that does not answer must not hold up the others.
            self._asked.add(node)
            threading.Thread(target=self._learn, args=(node,), daemon=True).start()
        return {name for node, name in list(self.names.items()) if node in present}

    def ask(self, name, message):
        """The reply of a site's process, or no bytes if it cannot be reached."""
        present = self._present()
        nodes = [n for n, site in list(self.names.items()) if site == name]
        nodes = [node for node in nodes if node in present]
        if not nodes:
            print(f"{name}: no node of this site is connected", flush=True)
            return b""
        if len(nodes) > 1:
            print(f"{name}: the nodes {nodes} say that they are this site", flush=True)
        # The coordinator asks again if the reply has another site's seal.
        node = nodes[self._turns[name] % len(nodes)]
        self._turns[name] += 1
        request = ConfigRecord({"message": message})
        reply = self._exchange(node, request, _SECONDS)
        return b"" if reply is None else reply.get("reply", b"")

    def _learn(self, node):
        """Asks a node for its name."""
        reply = self._exchange(node, ConfigRecord({}), _NAME_SECONDS)
        if reply is None:
            self._asked.discard(node)
            return
        name = str(reply.get("site", ""))
        if _NAME.fullmatch(name):
            self.names[node] = name
            print(f"node {node} is site {name}", flush=True)
        else:
            print(f"node {node} has no name of a site: {name[:80]!r}", flush=True)

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
                return reply.content.config_records.get("relay", ConfigRecord({}))
            if time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                if node not in self._present():
                    print(f"node {node} has gone", flush=True)
                    return None
            time.sleep(_PULL_SECONDS)
        return None
