"""A site's side of a federation: its server, its rules, and what it keeps.

- `site_server`, `site_requests`: a repeated request gets the reply that the
  site kept.
- `site_file`, `policy`: what a site's `site.toml` says, and what it refuses.
- `site_ledger`: what the records of a site have been charged.
- `kept_rounds`: no noise is used for two different models.
"""
