"""Executes one round by compiled programs: clients' values, chunks, their sums, errors.

`runtime` has the engines, which call these parts. `runtime.compiler` has the programs,
and `runtime.workers` the rounds on TFF's workers.
"""
