"""Accounts, which charge a run's rounds to its ledgers and compose their ε.

`privacy.ledger` has a run's own ledger; `shared` and `clients` have the ledgers that
runs share.
"""
