"""The command line `scripts/federation`: from a schema and keys to a demonstration.

`__main__` reads the command line. `schema` drafts, merges and checks schemas, and
`disclosure` says what a draft tells of a site. `provision` writes federation.toml, keys
and the folders of the sites. `engines` makes environments and jobs of FLARE and
Flower, and `demo` runs four hospitals on this machine.
"""
