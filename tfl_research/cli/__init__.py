"""Command lines: flags of the experiments and the programs of `scripts/`.

The only importer of absl and argparse; what a run is stands in `experiment`.
"""
