"""Where XLA computes something else than TensorFlow, and how programs notice it.

Faster forms of operations for XLA are in `runtime.tracing`.
"""
