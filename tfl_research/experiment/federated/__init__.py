"""An experiment whose data stay at sites: what the coordinator does.

`shared` has what the coordinator and the sites make alike: settings without paths, and
the task of all sites. `coordinator` opens the engine of a run. The sites' work is in
`experiment.at_sites`; messages, carriers and secure sums are in
`tfl_research.federation`.
"""
