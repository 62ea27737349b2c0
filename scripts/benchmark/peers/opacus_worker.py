"""DP-SGD at the clients with Opacus, one client at a time, as its tutorials do.

Opacus makes a gradient for each example ("hooks"), or their norms alone, and the
clipped sum by a second pass ("ghost"). Both are tried, each with all cores and with
one, and the fastest stays.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from benchmark import protocol
from benchmark.images import IMAGES, NOISE_MULTIPLIER


def _hooks(network: Any, images: Any) -> Callable[[], tuple[Any, Any, Any]]:
    import torch
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    model = GradSampleModule(network)

    def for_client() -> tuple[Any, Any, Any]:
        optimizer = DPOptimizer(
            torch.optim.SGD(model.parameters(), images.client_rate),
            noise_multiplier=NOISE_MULTIPLIER,
            max_grad_norm=images.record_clip,
            expected_batch_size=images.batch_size,
        )
        return model, torch.nn.CrossEntropyLoss(), optimizer

    return for_client


def _ghost(network: Any, images: Any) -> Callable[[], tuple[Any, Any, Any]]:
    import torch
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    model = GradSampleModuleFastGradientClipping(
        network, max_grad_norm=images.record_clip, use_ghost_clipping=True
    )

    def for_client() -> tuple[Any, Any, Any]:
        optimizer = DPOptimizerFastGradientClipping(
            torch.optim.SGD(model.parameters(), images.client_rate),
            noise_multiplier=NOISE_MULTIPLIER,
            max_grad_norm=images.record_clip,
            expected_batch_size=images.batch_size,
        )
        criterion = DPLossFastGradientClipping(
            model, optimizer, torch.nn.CrossEntropyLoss()
        )
        return model, criterion, optimizer

    return for_client


def main(workload: str) -> None:
    answers = protocol.take_stdout()
    import torch
    from opacus.utils.uniform_sampler import UniformWithReplacementSampler
    from torch.utils.data import DataLoader, TensorDataset

    from benchmark.peers import torch_models

    warnings.filterwarnings("ignore")
    images = IMAGES[workload]
    torch.manual_seed(0)
    datasets = [
        TensorDataset(*torch_models.tensors(images, examples))
        for examples in images.clients().values()
    ]
    networks = [torch_models.network(images) for _ in range(2)]
    ways = [make(n, images) for make, n in zip((_ghost, _hooks), networks)]
    weights = [w.detach().clone() for w in networks[0].parameters()]
    cores = len(os.sched_getaffinity(0))
    chosen = 0

    def choose(way: int, threads: int) -> None:
        nonlocal chosen
        chosen = way
        torch.set_num_threads(threads)

    def train(dataset: Any) -> list[Any]:
        parameters = list(networks[chosen].parameters())
        with torch.no_grad():
            for parameter, weight in zip(parameters, weights):
                parameter.copy_(weight)
        model, criterion, optimizer = ways[chosen]()
        sampler = UniformWithReplacementSampler(
            num_samples=len(dataset), sample_rate=images.batch_size / len(dataset)
        )
        model.train()
        for x, y in DataLoader(dataset, batch_sampler=sampler):
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
        return [w.detach().clone() for w in parameters]

    settings = [
        functools.partial(choose, way, threads)
        for way in range(len(ways))
        for threads in ((cores, 1) if cores > 1 else (1,))
    ]

    def arrays() -> list[Any]:
        return [w.numpy() for w in weights]

    for _ in protocol.rounds(answers, settings, arrays):
        trained = [train(dataset) for dataset in datasets]
        weights = [torch.stack(column).mean(0) for column in zip(*trained)]


if __name__ == "__main__":
    main(*sys.argv[1:])
