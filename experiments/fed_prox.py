"""FedProx: federated averaging whose clients are pulled back to the server's model.

Each local objective gains the proximal term μ/2 ||w - w_t||² (Li et al. 2020, arXiv
1812.06127, Algorithm 2). Example:

  scripts/run experiments/fed_prox.py --task=heart --proximal_strength=0.1 \\
      --rounds=50 --output_dir=results/heart_prox
"""

import dataclasses
from typing import ClassVar

from tfl_research import flags
from tfl_research.flags import assembly, declare


@dataclasses.dataclass(frozen=True)
class FedProxFlags(flags.FlagGroup):
    """The proximal term."""

    TITLE: ClassVar[str] = "FedProx"

    proximal_strength: float = declare.real(
        0.1, "Weight μ of the proximal term; 0 is federated averaging.", minimum=0
    )


GROUPS = (FedProxFlags, *assembly.GROUPS, flags.AggregatorFlags, flags.DeviceFlags)
DEFAULTS = {"sampler": "fixed"}


def main() -> None:
    prox, aggregation = FedProxFlags.get(), flags.AggregatorFlags.get()
    parts = flags.DeviceFlags.get().setup()
    aggregation.check_with(parts)
    with assembly.open_run("fed_prox", parts) as folder:
        # TensorFlow is imported from here on, once everything is checked.
        from tfl_research import processes
        from tfl_research.flags import builders

        process = processes.build_fed_avg(
            parts.task,
            client_work=builders.client_work(
                parts.client, proximal_strength=prox.proximal_strength
            ),
            server_optimizer=builders.server_optimizer(parts.server),
            aggregator=builders.aggregator(aggregation, parts),
            client_weighting=builders.client_weighting(parts.weighting),
            seed=parts.run.seed,
        )
        assembly.train(parts, process, folder)


if __name__ == "__main__":
    flags.run_main(main, GROUPS, __doc__, defaults=DEFAULTS)
