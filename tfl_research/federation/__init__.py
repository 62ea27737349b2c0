"""Runs whose data stay at sites.

A coordinator asks and sites answer; a site's data never leave the site.

- `wire`: messages, seals and carriers between a coordinator and its sites.
- `site`: a site's server, its rules, and what the site keeps.
- `secure_sums`: sums in which the coordinator sees only the total.
- `engines`: NVIDIA FLARE and Flower, which carry messages or average by themselves.

The modules of this package are the coordinator's side:

- `engine`, `sites`, `asking`, `facts`, `evaluator`, `summing`: rounds, evaluations and
  secure sums over the sites, and what sites tell about themselves before a run.
- `kept_totals`: the totals that the coordinator keeps before it adds noise, so that no
  noise is used for two different models.
- `federation_file`: what `federation.toml` says about the sites.
- `toml_file`: TOML files that people write.
"""
