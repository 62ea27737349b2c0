"""Baselines of federation: one silo alone, or the pooled data of all silos.

With --train_on=NAME the silo trains on its own examples only. With --train_on=pooled
one model is trained on all silos' examples, as if data could be moved. Rounds are local
epochs (or --client_steps) of plain training with the client's optimizer. Every model is
evaluated on the test examples of every silo. Example:

  scripts/run experiments/silo_baseline.py --task=heart --train_on=Cleveland \\
      --rounds=50 --output_dir=results/heart_cleveland
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

from tfl_research import cli
from tfl_research.experiment import configs

PRESET = cli.Preset(
    "silo_baseline",
    __doc__,
    (configs.Baseline, *cli.COMMON),
    defaults={"sampler": "full", "train_on": "pooled"},
)


if __name__ == "__main__":
    cli.main(PRESET)
