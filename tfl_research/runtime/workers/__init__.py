"""TFF's worker processes and the connections to them.

`runtime` has the engines that use them.
"""
