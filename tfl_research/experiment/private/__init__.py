"""Private and audited experiments: plans, secret cohorts, ledgers and statements.

The settings of privacy are in `experiment.configs`; plans, accountants and mechanisms
themselves are in `tfl_research.privacy`.
"""
