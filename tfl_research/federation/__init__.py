"""Runs whose data stay at sites: messages, carriers, the site's server and its rules.

A coordinator asks and sites answer; a site's data never leave the site.

- `messages`, `plain_json`: tensors and JSON as bytes, in a documented format without
  code.
- `authentication`: who sent a message, for which run, and with which number.
- `sockets`, `carriers`, `relay_carrier`: bytes between coordinator and sites of one
  machine, or to the relay of another engine.
- `exchange`: the coordinator's side of requests and replies.
- `engine`, `sites`, `facts`, `evaluator`: the coordinator's rounds and evaluations, and
  what sites tell of themselves before a run.
- `summing`, `secure_sums`: secure sums over the sites.
- `kept_totals`, `kept_rounds`: what coordinator and sites keep, so that no noise is
  used twice.
- `handler`, `site_server`, `site_requests`: the site's side; a repeated request gets
  the reply that the site kept.
- `toml_file`: TOML files that people write.
- `federation_file`: what `federation.toml` says of the sites, for the coordinator.
- `site_file`, `policy`: what a site's `site.toml` says, and what it refuses.
- `site_ledger`: what the records of a site have been charged.
- `engines`: NVIDIA FLARE and Flower, which carry messages or average by themselves.
"""
