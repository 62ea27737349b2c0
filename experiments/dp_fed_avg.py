"""Federated averaging with user-level differential privacy (DP-FedAvg, DP-FTRL).

Updates are clipped, summed, noised by the mechanism of --mechanism, and divided by the
expected cohort size (McMahan et al. 2018, arXiv 1710.06963). Cohorts and noise are
drawn from a secret seed in the run's folder; the privacy loss ε is composed over the
ledger of all rounds. --aggregator takes a robust rule where the guarantee survives:
any after --mechanism=local_gaussian, whose clients noise their own updates, and
norm_clipping before the others; unsound pairs are refused with the reason. --devices
come and go in rounds whose course tells nothing of their data. Examples:

  scripts/run experiments/dp_fed_avg.py --task=shakespeare --cohort_size=100 \\
      --target_epsilon=8 --rounds=50 --output_dir=results/private
  scripts/run experiments/dp_fed_avg.py --task=shakespeare --cohort_size=50 \\
      --mechanism=banded_matrix --sampler=min_separation --target_epsilon=8 \\
      --rounds=50 --output_dir=results/matrix
  scripts/run experiments/dp_fed_avg.py --task=shakespeare --cohort_size=50 \\
      --mechanism=local_gaussian --sampler=fixed --noise_multiplier=0.5 \\
      --aggregator=trimmed_mean --byzantine=5 --rounds=50 --output_dir=results/local
  scripts/run experiments/dp_fed_avg.py --task=shakespeare --devices=714 \\
      --sampler=fixed --cohort_size=100 --minimum_cohort=60 --noise_multiplier=4 \\
      --rounds=50 --output_dir=results/private_devices
"""

from tfl_research import flags
from tfl_research.flags import assembly, private_assembly, private_devices

GROUPS = (
    flags.PrivacyFlags,
    flags.MechanismFlags,
    *assembly.GROUPS,
    flags.AggregatorFlags,
    flags.DeviceFlags,
)
DEFAULTS = {"sampler": "poisson", "client_weighting": "uniform"}


def main() -> None:
    private, mechanism = flags.PrivacyFlags.get(), flags.MechanismFlags.get()
    parts = private_devices.setup(flags.DeviceFlags.get(), mechanism)
    aggregation = flags.AggregatorFlags.get()
    promise = private_assembly.plan(private, mechanism, parts, aggregation)
    with assembly.open_run("dp_fed_avg", parts, promise.hparams()) as folder:
        sampler = private_assembly.secret_sampler(parts, folder)
        with private_assembly.open_account(promise, parts, folder) as account:
            # TensorFlow is imported from here on, once everything is checked.
            from tfl_research import processes
            from tfl_research.flags import builders

            built = builders.mechanism(promise, parts, noise_seed=folder.run_seed)
            process = processes.build_fed_avg(
                parts.task,
                client_work=builders.client_work(parts.client),
                server_optimizer=builders.server_optimizer(parts.server),
                aggregator=built.aggregator,
                client_weighting=builders.client_weighting(parts.weighting),
                seed=parts.run.seed,
            )
            assembly.train(parts, process, folder, sampler=sampler, account=account)


if __name__ == "__main__":
    flags.run_main(main, GROUPS, __doc__, defaults=DEFAULTS)
