"""Ledgers that several runs on one population charge, with a budget for all of them.

A run's own ledger is in `privacy.ledger`.
"""
