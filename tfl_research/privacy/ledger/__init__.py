"""Ledgers on disk, accounts that charge rounds to them, and privacy statements.

`privacy.accounting` computes ε; `privacy.plans` has what a round is charged as.
`lines` has what the lines say, `checks` compares ledgers with each other and with run
folders.

A ledger is a file of JSON lines, each with the hash of the line before it
(`hash_chain`). Beside it, `NAME.head` has the number of lines and the last hash.

- A run's own ledger, format 2: {"ledger": 2, "run", "salt", "seed_sha256"}, then
  {"round", "event"}, {"restart", "after"} and {"release", "round", "event"}. Earlier
  ledgers have no first line of this kind; they are read, and their runs not resumed.
- A shared ledger: the same lines without the first, each with "run" and "population";
  and {"budget", "delta", "accountant"}, with "raised" where it allows more than before.
"""
