"""Local training with record-level DP-SGD: gradients of examples, clipping and noise.

What a round is charged as is in `privacy`.
"""
