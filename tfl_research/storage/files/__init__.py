"""Writes, appends to, locks and reads single files and folders; names them in errors.

This package does not depend on runs. `storage` and `storage.metrics` have the files of
a run.
"""
