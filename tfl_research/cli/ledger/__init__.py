"""Parts of `cli.privacy_ledger`: its arguments, its tables and its plots.

Ledgers themselves, and what they compute, are in `privacy.ledger`.
"""
