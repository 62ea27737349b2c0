"""Any federated algorithm for heterogeneous clients, chosen by --algorithm.

FedAvg and FedOpt, FedProx with a fixed or an adaptive strength, SCAFFOLD, FedDyn,
FedNova, FedExP, Mime, MimeLite, FedBuff and federated dropout run on the same task,
clients and local steps, so that they can be compared; so do Ditto, FedRep, federated
reconstruction and IFCA, whose clients end up with models of their own. What clients
keep between rounds is in the run's folder; --personal_evaluation compares their own
models with the global one.
Example:

  scripts/run experiments/federated.py --task=mnist --partition=dirichlet \\
      --dirichlet_alpha=0.1 --algorithm=scaffold --rounds=50 \\
      --output_dir=results/scaffold
"""

import dataclasses

from tfl_research import flags
from tfl_research.flags import algorithm_assembly, algorithm_checks, assembly

GROUPS = (
    flags.AlgorithmFlags,
    flags.CompressionFlags,
    *assembly.GROUPS,
    flags.AggregatorFlags,
    flags.DeviceFlags,
    flags.SiloFlags,
)
DEFAULTS = {"sampler": "fixed"}


def main() -> None:
    chosen, aggregation = flags.AlgorithmFlags.get(), flags.AggregatorFlags.get()
    compression = flags.CompressionFlags.get()
    parts = flags.DeviceFlags.get().setup(chosen.buffering)
    parts = algorithm_assembly.weighted(chosen, parts)
    compression.check_with(chosen)
    compression.check_with_rule(aggregation)
    algorithm_checks.check_aggregation(chosen, aggregation, compression)
    algorithm_checks.check(chosen, parts)
    cohorts = algorithm_assembly.sampler(chosen, flags.SiloFlags.get(), parts)
    # Of the clients that report, of whom there may be fewer than are sampled.
    reporting = dataclasses.replace(parts, sampler=cohorts)
    aggregation.check_with(reporting)
    algorithm_assembly.check_model(chosen, parts)
    resolved = {"client_weighting": parts.weighting.client_weighting}
    with assembly.open_run("federated", parts, resolved) as folder:
        # TensorFlow is imported once everything is checked.
        from tfl_research.flags import builders

        algorithm = algorithm_assembly.algorithm(chosen, parts)
        work = compression.wrap(algorithm.client_work)
        process = dataclasses.replace(algorithm, client_work=work).build(
            parts.task,
            max_cohort_size=parts.sampler.maximum_cohort_size,
            aggregator=builders.aggregator(aggregation, reporting),
            client_weighting=builders.client_weighting(parts.weighting),
            seed=parts.run.seed,
        )
        assembly.train(
            parts,
            process,
            folder,
            sampler=cohorts,
            personal_evaluator=algorithm_assembly.personal_evaluator(
                chosen, algorithm, parts
            ),
        )


if __name__ == "__main__":
    flags.run_main(main, GROUPS, __doc__, defaults=DEFAULTS)
