"""What federation is compared with: one silo alone, or all silos' data pooled.

With --train_on=NAME the silo trains on its own examples only, with --train_on=pooled
one model is trained on everybody's, as if data could be moved. Rounds are local epochs
(or --client_steps) of plain training with the client's optimizer; every model is
evaluated on the test examples of every silo. Example:

  scripts/run experiments/silo_baseline.py --task=heart --train_on=Cleveland \\
      --rounds=50 --output_dir=results/heart_cleveland
"""

import dataclasses
from typing import ClassVar

from tfl_research import data, flags
from tfl_research.flags import assembly, declare
from tfl_research.tasks import Task


@dataclasses.dataclass(frozen=True)
class BaselineFlags(flags.FlagGroup):
    """Whose examples are trained on."""

    TITLE: ClassVar[str] = "Baseline"

    train_on: str = declare.text("pooled", "A silo's name, or pooled for all of them.")

    def task(self, task: Task) -> Task:
        """The task with this training data as its only client.

        Raises:
          FlagError: no such silo.
        """
        known = task.train.client_ids
        if self.train_on == data.client_splits.POOLED:
            pooled = data.client_splits.pooled(task.train)
            return dataclasses.replace(task, train=pooled)
        if self.train_on not in known:
            raise self.refused(
                "train_on", f"no such silo; choose pooled or one of {', '.join(known)}"
            )
        return dataclasses.replace(task, train=task.train.subset([self.train_on]))


GROUPS = (BaselineFlags, *assembly.GROUPS)
DEFAULTS = {"sampler": "full"}


def main() -> None:
    parts = assembly.setup(BaselineFlags.get().task)
    with assembly.open_run("silo_baseline", parts) as folder:
        # TensorFlow is imported from here on, once everything is checked.
        from tfl_research import processes
        from tfl_research.flags import builders

        process = processes.build_fed_avg(
            parts.task,
            client_work=builders.client_work(parts.client),
            server_optimizer=builders.server_optimizer(parts.server),
            client_weighting=builders.client_weighting(parts.weighting),
            seed=parts.run.seed,
        )
        assembly.train(parts, process, folder)


if __name__ == "__main__":
    flags.run_main(main, GROUPS, __doc__, defaults=DEFAULTS)
