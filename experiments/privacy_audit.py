"""Empirical audit of user-level differential privacy: canary clients, an attack.

Trains as dp_fed_avg.py does, with canary clients in the population: each sends its own
random direction, far longer than the clip, if a fair coin says so (Andrew et al. 2023,
arXiv 2302.03098). How well what is released shows who took part gives an estimate of ε
and a lower confidence bound (Steinke et al. 2023, arXiv 2305.08846), which are printed
beside the accountant's ε; a bound above it means that the mechanism does not do what
its account says. The exported model is attacked by membership inference as well.
--sabotage breaks the mechanism on purpose. Canaries take part in training: audit a run
of its own, not the one whose model is used. Example:

  scripts/run experiments/privacy_audit.py --task=mnist --cohort_size=150 \\
      --canaries=200 --target_epsilon=1 --delta=1e-5 --rounds=20 \\
      --output_dir=results/audit
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.end_on_signals()

from tfl_research import cli, privacy
from tfl_research.experiment import configs

PRESET = cli.Preset(
    "privacy_audit",
    __doc__,
    (
        configs.Audit,
        configs.UserLevelPrivacy,
        configs.Release,
        privacy.MECHANISMS,
        *cli.COMMON,
    ),
    fixed={"privacy_unit": "client", "audit": True},
)


if __name__ == "__main__":
    cli.main(PRESET)
