"""Single files and folders: written, appended to, locked, read, named in errors.

Nothing here knows of runs; the files of a run are in `storage` and `storage.metrics`.
"""
