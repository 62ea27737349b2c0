"""An experiment whose data stay at sites: the coordinator's side and a site's side.

`shared` has what both make alike: settings without paths, and the task of all sites.
`coordinator` opens the engine of a run. `site` and `site_run` do a site's work.
`numpy_client` does a site's work by a class of the user's, in any framework.
`engine_jobs` makes a job of FLARE or Flower, which average by themselves, and
`engine_trainer` trains for it. `compare` runs the simulation of a federation and compares the two. Messages, carriers
and secure sums are in `tfl_research.federation`.
"""
