"""One round: cohort, charge, exclusions, checks, evaluation, and its row in the log.

`program` has the loop over the rounds, and what lies between starts of a run.
"""
