"""TFF's worker processes, and connections to workers.

`runtime` has the engines that use workers.
"""
