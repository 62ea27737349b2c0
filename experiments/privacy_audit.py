"""Empirical audit of user-level differential privacy: canary clients, an attack.

Trains as dp_fed_avg.py does, with canary clients in the population. A fair coin decides
for each canary whether it takes part. If so, the canary sends its own random direction,
far longer than the clip (Andrew et al. 2023, arXiv 2302.03098). The audit guesses from
the releases which canaries took part. From the number of right guesses it computes an
estimate of ε and a lower confidence bound (Steinke et al. 2023, arXiv 2305.08846). Both
are printed together with the accountant's ε. A bound above the accountant's ε means
that the mechanism protects less than the accountant says. The exported model is also
attacked by membership inference. --sabotage breaks the mechanism on purpose. Canaries
take part in training, so do not use the model of an audited run. Example:

  scripts/run experiments/privacy_audit.py --task=mnist --cohort_size=150 \\
      --canaries=200 --target_epsilon=1 --delta=1e-5 --rounds=20 \\
      --output_dir=results/audit
"""

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

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
