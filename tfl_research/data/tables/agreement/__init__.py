"""A schema that several sites agree on, although no row leaves its site.

`drafting` makes a draft of one site's files, `draft` is what a site publishes, and
`rounding` makes scales coarse. `merging` makes the content of a schema.json of
published drafts and of the consortium's `decisions`, with `merged_levels` and
`merged_scales`. `fit` says which
cells of a site's files do not fit the schema.
"""
