"""The command line `scripts/federation`: from a schema and keys to a demonstration.

`__main__` reads the command line. `schema` drafts, merges and checks schemas, and
`disclosure` says what a draft tells about a site. `provision` writes federation.toml,
keys and the folders of the sites. It uses `provisioned_files`, `site_template`, `names`
and, for FLARE and Flower, `provisioned_engine`. `engines` makes and runs the
environments of FLARE and Flower. `export` writes experiments in which FLARE or Flower
averages. `demo` runs four `hospitals` as `processes` on this machine.
"""
