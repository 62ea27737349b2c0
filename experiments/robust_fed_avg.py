"""Federated averaging with a Byzantine-robust rule in place of the mean.

The server looks at all updates of a cohort together, excludes those that are not
finite, and makes one update of the rest by a rule that a few hostile clients cannot
bend far: the coordinate-wise median by default (Yin et al. 2018, arXiv 1803.01498).
Rules and their conditions on the cohort's size are those of --aggregator; for
trusted_root (FLTrust) the server trains on --root_examples of its own in every round.
With --attack a part of the clients is malicious; the columns eval_backdoor_* of
metrics.csv then hold a backdoor's success rate (accuracy). Example:

  scripts/run experiments/robust_fed_avg.py --task=mnist --cohort_size=20 \\
      --aggregator=krum --byzantine=4 --attack=alie --rounds=50 \\
      --output_dir=results/krum
"""

from tfl_research import flags
from tfl_research.flags import assembly, attack_assembly, root_assembly

GROUPS = (flags.AggregatorFlags, flags.AttackFlags, *assembly.GROUPS)
DEFAULTS = {
    "aggregator": "coordinate_median",
    "client_weighting": "uniform",
    "sampler": "fixed",
}


def main() -> None:
    aggregation, attack = flags.AggregatorFlags.get(), flags.AttackFlags.get()
    parts = assembly.setup()
    aggregation.check_with(parts, has_root=True)
    honest = parts.task.train
    simulation = attack_assembly.simulate(attack, parts, aggregation)
    parts = simulation.parts
    rooted = root_assembly.with_root(aggregation, parts, honest)
    with assembly.open_run("robust_fed_avg", parts, simulation.resolved) as folder:
        # TensorFlow is imported from here on, once everything is checked.
        from tfl_research import processes
        from tfl_research.flags import builders

        process = processes.build_fed_avg(
            rooted.task,
            client_work=simulation.client_work(builders.client_work(parts.client)),
            server_optimizer=builders.server_optimizer(parts.server),
            aggregator=simulation.aggregator(aggregation),
            client_weighting=builders.client_weighting(parts.weighting),
            seed=parts.run.seed,
        )
        assembly.train(rooted, process, folder)


if __name__ == "__main__":
    flags.run_main(main, GROUPS, __doc__, defaults=DEFAULTS)
