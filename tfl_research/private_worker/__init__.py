"""TFF's worker in its own network, behind a door that its owner guards.

TFF's worker cannot be told where to listen: it listens on all interfaces, and executes
what anybody sends. `keeper` is a program that starts a worker in a network with a
loopback interface and nothing else (`network`), listens at the given address (`door`),
and relays connections. It needs no TensorFlow.
"""
