"""TFF's worker in its own network, behind a door that its owner guards.

TFF's worker has no option for the address. It listens on all interfaces, and executes
what anybody sends. `keeper` is a program that starts a worker in a network that has
only a loopback interface (`network`), listens at the given address (`door`), and relays
connections. `keeper` needs no TensorFlow.
"""
