"""Ledgers on disk, accounts that charge rounds to them, and privacy statements.

`privacy.accounting` computes ε, and `privacy.plans` has the event that a round is
charged. Here is a run's own ledger. `shared` and `clients` have the ledgers that runs
share. `accounts` charges rounds to the ledgers. `lines` has the content of a ledger's
lines. `checks` compares ledgers with each other and with run folders.

A ledger is a file of JSON lines, each with the hash of the line before it
(`hash_chain`). Beside it, `NAME.head` has the number of lines and the last hash.

- A run's own ledger, format 2: {"ledger": 2, "run", "salt", "seed_sha256"}, then
  {"round", "event"}, {"restart", "after"} and {"release", "round", "event"}. Earlier
  ledgers have no first line of this kind; they can be read, but their runs cannot be
  resumed.
- A shared ledger: the same lines without the first, each with "run" and "population";
  and {"budget", "delta", "accountant"}, with "raised" if the new budget is larger.
"""
