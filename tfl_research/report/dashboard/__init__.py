"""A page that follows runs while they train: what scripts/dashboard serves.

`watched` finds and reads the runs of a folder, `ledgers` the shared ledgers, `access`
says who may look, and `app` is the web application. All of it only reads files. Nothing
is locked, so that no run that begins finds its folder in use.
"""
