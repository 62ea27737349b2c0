"""The numbers and texts of each round: metrics.csv, its copy, and measurements.jsonl.

Which numbers a run may write is decided in `outputs`; when they are written, in
`program`.
"""
