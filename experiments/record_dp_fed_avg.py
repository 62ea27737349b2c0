"""Federated averaging over silos with record-level differential privacy (DP-SGD).

Every client trains by DP-SGD (Abadi et al. 2016, arXiv 1607.00133, Algorithm 1): each
local step draws the client's records by Poisson sampling, clips each record's gradient,
and adds Gaussian noise to the sum before anything leaves the client. The guarantee is
each record's, against the server, the other clients and whoever sees the models;
every client has its own ε (client_epsilon.csv), and metrics.csv has the largest. Which
records take part and the noise are drawn from a secret seed in the run's folder. A
client is charged for every round, also where it is down (--silo_drop_out) or the round
is abandoned (--minimum_clients): what others sent has been seen. Example:

  scripts/run experiments/record_dp_fed_avg.py --task=heart --record_target_epsilon=4 \\
      --rounds=20 --output_dir=results/heart_record_dp
"""

import dataclasses

from tfl_research import flags
from tfl_research.flags import assembly, record_assembly

GROUPS = (
    flags.RecordPrivacyFlags,
    *assembly.GROUPS,
    flags.AggregatorFlags,
    flags.SiloFlags,
)
DEFAULTS = {"sampler": "full", "withhold_train_metrics": True}


def main() -> None:
    record, aggregation = flags.RecordPrivacyFlags.get(), flags.AggregatorFlags.get()
    promise, parts = record_assembly.plan(record, assembly.setup())
    aggregation.check_with_privacy(promise.event.kind)
    cohorts = flags.SiloFlags.get().sampler(parts.sampler, parts.run.seed)
    # Of the silos that report, of which there may be fewer than are asked.
    parts = dataclasses.replace(parts, sampler=cohorts)
    aggregation.check_with(parts)
    with (
        assembly.open_run("record_dp_fed_avg", parts, promise.hparams()) as folder,
        record_assembly.open_account(promise, parts, folder) as account,
    ):
        # TensorFlow is imported from here on, once everything is checked.
        from tfl_research import processes
        from tfl_research.flags import builders

        process = processes.build_fed_avg(
            parts.task,
            client_work=builders.record_level_work(
                record, parts, noise_multiplier=promise.event.noise_multiplier
            ),
            server_optimizer=builders.server_optimizer(parts.server),
            aggregator=builders.aggregator(aggregation, parts),
            client_weighting=builders.client_weighting(parts.weighting),
            seed=parts.run.seed,
        )
        assembly.train(
            parts,
            process,
            folder,
            account=account,
            cohort_seed=record_assembly.secret_cohort_seed(folder),
        )


if __name__ == "__main__":
    flags.run_main(main, GROUPS, __doc__, defaults=DEFAULTS)
