"""`ProcessExperiment` runs any TFF process with a folder, metrics and a ledger.

The toolkit knows only the types of a process that it did not build. `process_form`
gives every process one form. `client_values` and `typed_values` read clients' data as
the values that the form takes. `noise` finds what the computation tells about its
randomness. `declared` and `plans` have what the user declares about the process.
`client_digest` compares the clients' values of two starts. `prepared` checks the
experiment, `execution` runs it, and `explained` names the clients of a failed round.
"""
