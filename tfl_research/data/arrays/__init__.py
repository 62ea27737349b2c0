"""Arrays of examples: users' values, exact integers, several parts, sequences.

`data.conversion` uses these parts to convert a client's examples.
"""
