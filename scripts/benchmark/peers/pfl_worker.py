"""pfl's simulation with torch, in one process or distributed over one for each core.

In one process, torch has either all cores or one, whichever is faster. Distributed
is how pfl's documentation shares a cohort among processes.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Optional

from benchmark import protocol, specs
from benchmark.images import NOISE_MULTIPLIER
from benchmark.specs import Spec

_WITHOUT_END = 10**9
_RANK = "PFL_WORKER_RANK"
_ADDRESSES = "PFL_WORKER_ADDRESSES"


def _start_others(num_processes: int, workload: str) -> None:
    """Makes this process the first of several, and starts the others."""
    probes = [socket.create_server(("localhost", 0)) for _ in range(num_processes)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    os.environ[_ADDRESSES] = ",".join(f"localhost:{port}" for port in ports)
    for rank in range(1, num_processes):
        subprocess.Popen(
            [sys.executable, "-m", "benchmark.peers.pfl_worker", workload],
            env={**os.environ, _RANK: str(rank)},
            stdin=subprocess.DEVNULL,
        )
    os.environ[_RANK] = "0"


def _backend(images: Spec) -> Any:
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints, WeightByUser
    from pfl.data import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.privacy import CentrallyAppliedPrivacyMechanism, GaussianMechanism

    from benchmark.peers import torch_models

    users = {
        client: torch_models.tensors(images, examples)
        for client, examples in images.clients().items()
    }
    sampler = get_user_sampler("minimize_reuse", list(users))
    data = FederatedDataset.from_slices(users, sampler)
    postprocessors: list[Any] = [WeightByDatapoints()]
    if images.clip is not None:
        mechanism = GaussianMechanism(images.clip, NOISE_MULTIPLIER)
        postprocessors = [WeightByUser(), CentrallyAppliedPrivacyMechanism(mechanism)]
    return SimulatedBackend(
        training_data=data, val_data=data, postprocessors=postprocessors
    )


def _model(images: Spec) -> Any:
    import torch
    from pfl.metrics import Weighted
    from pfl.model.pytorch import PyTorchModel

    from benchmark.peers import torch_models

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = torch_models.network(images)
            self.criterion = torch.nn.CrossEntropyLoss()

        def loss(self, x: Any, y: Any, eval: bool = False) -> Any:
            self.train(not eval)
            logits = self.network(x)
            return self.criterion(logits.flatten(0, -2), y.flatten())

        @torch.no_grad()
        def metrics(self, x: Any, y: Any) -> Any:
            total = self.loss(x, y, eval=True).item() * len(y)
            return {"loss": Weighted(total, len(y))}

    module = Classifier()
    return PyTorchModel(
        model=module,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(module.parameters(), 1.0),
    )


def main(workload: str, how: str = "") -> None:
    answers = protocol.take_stdout()
    cores = len(os.sched_getaffinity(0))
    if how == "distributed":
        if cores < 2:
            raise RuntimeError("a process for each core needs two cores, found one")
        _start_others(cores, workload)
    rank = int(os.environ.get(_RANK, "0"))
    distributed = _RANK in os.environ

    import numpy as np
    import torch
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Metrics

    # Equal in all processes, which thereby agree on the model, users and noise.
    torch.manual_seed(0)
    np.random.seed(0)
    images = specs.get(workload)
    model = _model(images)
    threads = [1] if distributed else [cores, 1]
    own_rounds: Optional[Iterator[int]] = None
    if rank == 0:
        own_rounds = protocol.rounds(
            answers,
            settings=[functools.partial(torch.set_num_threads, n) for n in threads],
            weights=lambda: [w.detach().numpy() for w in model.variable_map.values()],
        )
    else:
        torch.set_num_threads(1)

    def goes_on() -> bool:
        """Waits until another round is asked for; false at the end."""
        more = own_rounds is not None and next(own_rounds, None) is not None
        if not distributed:
            return more
        told = torch.tensor([int(more)])
        torch.distributed.broadcast(told, 0)
        return bool(told.item())

    class OnDemand(TrainingProcessCallback):
        def after_central_iteration(
            self, aggregate_metrics: Any, model: Any, *, central_iteration: int
        ) -> Any:
            return not goes_on(), Metrics()

    goes_on()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=_WITHOUT_END,
            evaluation_frequency=_WITHOUT_END,
            train_cohort_size=images.num_clients,
            val_cohort_size=0,
        ),
        backend=_backend(images),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_learning_rate=images.client_rate,
            local_num_epochs=1,
            local_batch_size=images.batch_size,
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=None),
        callbacks=[OnDemand()],
        send_metrics_to_platform=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
