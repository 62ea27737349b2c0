"""Decides what each part of a run's page shows; the templates decide how.

`headline` has the tiles, `models` the table of metrics, `clients` the clients' tables,
`privacy_section` the guarantee and `settings_section` the settings. `page` puts the
parts together.
"""
