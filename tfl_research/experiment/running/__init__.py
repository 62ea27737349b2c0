"""Runs a checked experiment: its process, engine, noise keys, rounds and result.

`experiment.setup` makes what a run needs before TensorFlow is imported. `program` has
the loop over rounds.
"""
