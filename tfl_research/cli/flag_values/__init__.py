"""Makes flags from settings, parses them, reads them from files and explains them.

`cli.preset` says which flags a binary has, and `cli.grids` has the grids of sweeps.
"""
