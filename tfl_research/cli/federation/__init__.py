"""The command line `scripts/federation`: from a schema and keys to a demonstration.

`__main__` reads the command line. `schema` drafts, merges and checks schemas, and
`disclosure` says what a draft tells of a site. `provision` writes federation.toml, keys
and the folders of the sites, with `provisioned_files`, `site_template`, `names` and,
for FLARE and Flower, `provisioned_engine`. `engines` makes their environments and runs
them, and `export` writes experiments in which they average. `demo` runs four
`hospitals` on this machine, as `processes`.
"""
