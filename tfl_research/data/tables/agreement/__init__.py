"""Agrees on one schema for several sites, although no row leaves its site.

`drafting` makes a draft from one site's files, `draft` is what a site publishes, and
`rounding` makes scales coarse. `merging` makes the content of a schema.json from
published drafts and from the consortium's `decisions`. It uses `merged_levels` and
`merged_scales`. `fit` finds the cells of a site's files that do not fit the schema.
"""
