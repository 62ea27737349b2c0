"""The coordinator's part of an experiment whose data stay at sites.

`shared` has what the coordinator and the sites both make: settings without paths, and
the task of all sites. `coordinator` opens the engine of a run. `experiment.at_sites`
has the sites' work. `tfl_research.federation` has messages, carriers and secure sums.
"""
