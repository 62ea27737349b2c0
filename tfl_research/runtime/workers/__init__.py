"""TFF's worker processes and the connections to them.

Engines that use them are in `runtime`.
"""
