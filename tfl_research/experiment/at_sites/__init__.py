"""A site's part of an experiment, and the comparison of sites with a simulation.

`site` answers the coordinator, and `site_run` does a site's work for one run, with
`sums_at_site` for secure sums.
`numpy_client` lets a user's own class do this work, in any framework. `engine_jobs`
makes jobs in which FLARE or Flower averages, and `engine_trainer` trains for these
jobs. `compare` simulates a federation and compares the simulation with the federation.
`experiment.federated` has the coordinator's part.
"""
