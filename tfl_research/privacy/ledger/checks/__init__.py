"""Composes several ledgers, and compares ledgers with the files of run folders."""
