"""Compiles a TFF process to TensorFlow programs: graphs, modes, chunks.

`runtime` has the engines, which call the programs.
"""
