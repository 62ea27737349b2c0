"""Compares several runs on one page: curves, results, and settings that differ.

`groups` groups runs that differ only in their seed, `figures` and `grids` draw the
groups, and `page` makes the page.
"""
