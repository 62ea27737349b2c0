"""Writes the results of a finished run: models, summary and report.

`program` and `storage` write the files of each round.
"""
