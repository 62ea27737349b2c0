"""The numbers and texts of each round: metrics.csv, its copy, and measurements.jsonl.

`outputs` decides which numbers a run may write, and `program` decides when.
"""
