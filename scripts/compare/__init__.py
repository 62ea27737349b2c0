"""scripts/compare_frameworks: one federated task in every framework.

`programs` has the programs that are measured, as each framework's documentation
writes them; `federated_task` is what they read, and `recorder` what they report to.
`frameworks` says what each framework is. `installation` tries what its documentation
says. `trial` runs a program and watches its processes, `measurement` makes a
framework's result of that, `outcomes` reads a result, and `table` draws all results.
`forgotten` are the results that are measured anew.
"""
