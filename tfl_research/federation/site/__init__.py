"""A site's side of a federation: its server, its rules, and the files that it keeps.

- `site_server`, `site_requests`: answer the coordinator. A repeated request gets the
  reply that the site kept.
- `site_file`, `policy`: read a site's `site.toml`, and refuse what it forbids.
- `site_ledger`: the privacy loss that a site's records have been charged.
- `kept_rounds`: remembers the noised rounds, so that no noise is used for two models.
"""
