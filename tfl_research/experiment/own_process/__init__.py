"""`ProcessExperiment`: any TFF process as a run with a folder, metrics and an account.

A process that the toolkit did not build is known by its types alone: `process_form`
gives every process one form, and `client_values` and `typed_values` read clients' data
as the values that the form takes. `noise` says what the computation tells about its
randomness, and `declared` and `plans` what its user declares. `client_digest` compares
the clients' values of two starts. `prepared` checks all of this, `execution` runs it,
and `explained` names the clients of a round that fails.
"""
