"""From a TFF process to the parts of its map-reduce form.

`process_forms` converts a process: by `direct_forms`, which evaluates the process'
building blocks (`evaluation`, `round_values`) and writes each part as a graph
(`writing`), or by TFF's compiler, whose forms `known_forms` keeps. The programs that
execute the parts are in `runtime.compiler`.
"""
