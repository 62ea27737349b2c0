"""Shared ledgers of record-level runs: one for each client, in one folder.

`privacy.ledger.shared` has the ledger of one population.
"""
