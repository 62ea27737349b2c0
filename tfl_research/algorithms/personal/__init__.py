"""Algorithms that train a personal model for each client.

`algorithms` exports the public names: `algorithms.Ditto`, `algorithms.build_ditto`.
"""
