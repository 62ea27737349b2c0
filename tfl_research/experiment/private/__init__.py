"""Private and audited experiments: plans, secret cohorts, ledgers and statements.

`releases` decides which outputs are released. `experiment.configs` has the privacy
settings. `tfl_research.privacy` has the plans, accountants and mechanisms.
"""
