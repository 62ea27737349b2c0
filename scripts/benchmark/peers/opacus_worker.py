"""DP-SGD at the clients with Opacus, one client at a time, as its tutorial does."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from typing import Any

from benchmark import protocol
from benchmark.images import IMAGES, NOISE_MULTIPLIER


def main(workload: str) -> None:
    answers = protocol.take_stdout()
    import torch
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer
    from opacus.utils.uniform_sampler import UniformWithReplacementSampler
    from torch.utils.data import DataLoader, TensorDataset

    from benchmark.peers import torch_models

    warnings.filterwarnings("ignore")
    images = IMAGES[workload]
    clip: Any = images.record_clip
    torch.manual_seed(0)
    datasets = [
        TensorDataset(*torch_models.tensors(images, examples))
        for examples in images.clients().values()
    ]
    plain = torch_models.network(images)
    model = GradSampleModule(plain)
    criterion = torch.nn.CrossEntropyLoss()
    weights = [w.detach().clone() for w in plain.parameters()]
    cores = len(os.sched_getaffinity(0))

    def train(dataset: Any) -> list[Any]:
        with torch.no_grad():
            for parameter, weight in zip(plain.parameters(), weights):
                parameter.copy_(weight)
        optimizer = DPOptimizer(
            torch.optim.SGD(model.parameters(), images.client_rate),
            noise_multiplier=NOISE_MULTIPLIER,
            max_grad_norm=clip,
            expected_batch_size=images.batch_size,
        )
        sampler = UniformWithReplacementSampler(
            num_samples=len(dataset), sample_rate=images.batch_size / len(dataset)
        )
        model.train()
        for x, y in DataLoader(dataset, batch_sampler=sampler):
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
        return [w.detach().clone() for w in plain.parameters()]

    threads = [functools.partial(torch.set_num_threads, n) for n in (cores, 1)]

    def arrays() -> list[Any]:
        return [w.numpy() for w in weights]

    for _ in protocol.rounds(answers, threads, arrays):
        trained = [train(dataset) for dataset in datasets]
        weights = [torch.stack(column).mean(0) for column in zip(*trained)]


if __name__ == "__main__":
    main(*sys.argv[1:])
