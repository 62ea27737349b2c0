"""Any federated algorithm for heterogeneous clients, chosen by --algorithm.

FedAvg and FedOpt, FedProx with a fixed or an adaptive strength, SCAFFOLD, FedDyn,
FedNova, FedExP, Mime and MimeLite run on the same task, cohorts and local steps, so
that they can be compared. What clients keep between rounds is in the run's folder.
Example:

  scripts/run experiments/federated.py --task=mnist --partition=dirichlet \\
      --dirichlet_alpha=0.1 --algorithm=scaffold --client_weighting=uniform \\
      --rounds=50 --output_dir=results/scaffold
"""

from tfl_research import flags
from tfl_research.flags import algorithm_assembly, assembly

GROUPS = (flags.AlgorithmFlags, *assembly.GROUPS, flags.AggregatorFlags)
DEFAULTS = {"sampler": "fixed"}


def main() -> None:
    chosen, aggregation = flags.AlgorithmFlags.get(), flags.AggregatorFlags.get()
    parts = assembly.setup()
    aggregation.check_with(parts)
    algorithm_assembly.check(chosen, parts)
    with assembly.open_run("federated", parts) as folder:
        # TensorFlow is imported from here on, once everything is checked.
        from tfl_research.flags import builders

        process = algorithm_assembly.algorithm(chosen, parts).build(
            parts.task,
            max_cohort_size=parts.sampler.maximum_cohort_size,
            aggregator=builders.aggregator(aggregation, parts),
            client_weighting=builders.client_weighting(parts.weighting),
            seed=parts.run.seed,
        )
        cohorts = algorithm_assembly.sampler(chosen, parts)
        assembly.train(parts, process, folder, sampler=cohorts)


if __name__ == "__main__":
    flags.run_main(main, GROUPS, __doc__, defaults=DEFAULTS)
