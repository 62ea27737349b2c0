"""Ledgers on disk, accounts that charge rounds to them, and privacy statements.

`privacy.accounting` computes ε; `privacy.plans` has what a round is charged as.
"""
