"""Converts a TFF process to the parts of its map-reduce form.

`process_forms` converts a process in one of two ways. `direct_forms` evaluates the
process' building blocks (`evaluation`, `round_values`) and writes each part as a graph
(`writing`). The other way is TFF's compiler, whose forms `known_forms` keeps.
`runtime.compiler` has the programs that execute the parts.
"""
