"""Ledgers that several runs on one population charge, with one budget for all runs.

`privacy.ledger` has a run's own ledger.
"""
