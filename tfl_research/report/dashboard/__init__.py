"""The web page that scripts/dashboard serves: runs in progress.

`watched` finds and reads the runs of a folder, and `ledgers` reads shared ledgers.
`access` says who may look, and `app` is the web application. The dashboard only reads
files. It locks no file, so a starting run never finds its folder in use.
"""
