"""Flags: how they are made of settings, parsed, read from files and explained.

Which flags a binary has is in `cli.preset`, and the grids of sweeps in `cli.grids`.
"""
