"""Runs whose data stay at sites: messages, carriers, the site's server and its rules.

A coordinator asks and sites answer; a site's data never leave the site.

- `messages`, `plain_json`: tensors and JSON as bytes, in a documented format without
  code.
- `authentication`: who sent a message, for which run, and as which in order.
- `sockets`, `carriers`, `relay_carrier`: bytes between coordinator and sites of one
  machine, or to the relay of another engine.
- `exchange`: the coordinator's side of requests and replies.
- `handler`, `site_server`, `site_requests`: the site's side; a repeated request gets
  the reply that the site kept.
- `toml_file`: TOML files that people write.
- `federation_file`: what `federation.toml` says of the sites, for the coordinator.
- `site_file`, `policy`: what a site's `site.toml` says, and what it refuses.
- `site_ledger`: what the records of a site have been charged.
"""
