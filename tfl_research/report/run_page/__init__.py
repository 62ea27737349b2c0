"""The parts of a run's page: what each shows is decided here, how in the templates.

`headline` has the tiles, `models` the table of metrics, `clients` the clients' tables,
`privacy_section` the guarantee and `settings_section` the settings. `page` puts them
together.
"""
