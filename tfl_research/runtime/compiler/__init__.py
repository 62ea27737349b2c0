"""From a TFF process to compiled TensorFlow programs: graphs, modes, chunks.

Engines, which call the programs, are in `runtime`.
"""
