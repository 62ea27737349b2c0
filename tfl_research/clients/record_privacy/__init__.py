"""Local training with record-level DP-SGD: clips per-example gradients, adds noise.

`privacy` has the events that are charged for a round.
"""
