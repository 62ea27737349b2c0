"""Privacy statements: their numbers, their words, and the files that hold them.

`privacy.ledger` has the ledgers from which the statements are made.
"""
