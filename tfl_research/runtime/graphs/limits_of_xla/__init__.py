"""Finds operations for which XLA's results differ from TensorFlow's.

`runtime.tracing` has faster forms of operations for XLA.
"""
