"""Several runs on one page: overlaid curves, results, and settings that differ.

`groups` puts runs together that differ in their seed alone, `figures` and `grids` draw
them, and `page` makes the page.
"""
