"""A site's part of an experiment, and what compares sites with a simulation.

`site` answers the coordinator, and `site_run` does the work of one run.
`numpy_client` does this work with a class of the user, in any framework.
`engine_jobs` makes jobs of FLARE and Flower, which average by themselves, and
`engine_trainer` trains for them. `compare` runs the simulation of a federation and
compares the two. The coordinator's part is in `experiment.federated`.
"""
