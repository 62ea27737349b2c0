"""Algorithms whose clients end up with models of their own.

`algorithms` exports the public names: `algorithms.Ditto`, `algorithms.build_ditto`.
"""
