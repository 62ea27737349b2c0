"""What a private run releases: the filter of outputs, private evaluation, statements.

`outputs` has the table of all outputs; `program.evaluation` computes private values.
"""
