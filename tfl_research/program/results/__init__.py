"""What a run leaves behind at its end: models, summary and report.

Files that are written in each round are in `program` and `storage`.
"""
