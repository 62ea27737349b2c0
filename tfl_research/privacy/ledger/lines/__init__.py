"""The content of ledger lines as data; this package never writes a ledger."""
