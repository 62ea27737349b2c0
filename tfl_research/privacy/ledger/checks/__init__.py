"""Several ledgers together, and ledgers against the files of run folders."""
