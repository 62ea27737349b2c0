"""Federated averaging, and FedOpt with a server optimizer other than plain SGD.

Clients train from the server's model for a few local steps; the server applies the
mean of their model deltas (McMahan et al. 2017, arXiv 1602.05629; Reddi et al. 2020,
arXiv 2003.00295). Example:

  scripts/run experiments/fed_avg.py --task=heart --rounds=50 --output_dir=results/heart
"""

from tfl_research import flags
from tfl_research.flags import assembly

GROUPS = (*assembly.GROUPS, flags.AggregatorFlags, flags.DeviceFlags)
DEFAULTS = {"sampler": "fixed"}


def main() -> None:
    aggregation = flags.AggregatorFlags.get()
    parts = flags.DeviceFlags.get().setup()
    aggregation.check_with(parts)
    with assembly.open_run("fed_avg", parts) as folder:
        # TensorFlow is imported from here on, once everything is checked.
        from tfl_research import processes
        from tfl_research.flags import builders

        process = processes.build_fed_avg(
            parts.task,
            client_work=builders.client_work(parts.client),
            server_optimizer=builders.server_optimizer(parts.server),
            aggregator=builders.aggregator(aggregation, parts),
            client_weighting=builders.client_weighting(parts.weighting),
            seed=parts.run.seed,
        )
        assembly.train(parts, process, folder)


if __name__ == "__main__":
    flags.run_main(main, GROUPS, __doc__, defaults=DEFAULTS)
