"""What the lines of ledgers say, as data; nothing here opens a ledger to write."""
