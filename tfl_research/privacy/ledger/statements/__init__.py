"""Privacy statements: their numbers, their words, and the files that hold them.

The ledgers that they are made from are in `privacy.ledger`.
"""
