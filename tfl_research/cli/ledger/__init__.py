"""Parts of `cli.privacy_ledger`: its arguments, its tables and its plots.

`privacy.ledger` has the ledgers and their arithmetic.
"""
