"""Federations over other engines: NVIDIA FLARE and Flower.

The engines run in environments of their own, without TensorFlow. The files that run
there are in `relays/`. They import neither this package nor TensorFlow.

- `environments`: makes an engine's environment from its lock.
- `processes`: starts and ends an engine's long-lived processes.
- `flare`, `flower`: certificates and keys, the engine's processes, and its jobs.
- `flare_job`, `flower_app`: folders that the engine runs: our relay, or the engine's
  own averaging around our training at the sites.
- `training_socket`: where an engine's job hands weights to a site's process.
- `deployment`: certificates and processes of an engine that carries a federation, for
  FLARE in `flare_deployment` and for Flower in `flower_deployment`. `deployments` finds
  them by the engine's name.
"""
