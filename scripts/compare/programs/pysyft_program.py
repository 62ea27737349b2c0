"""PySyft, as its tutorials "Federated Learning via Trusted Aggregator" and "Federated
Learning with Federated Dataset" write it, with virtual workers.
"""

import syft as sy
import torch
from syft.frameworks.torch.fl import utils

from compare import federated_task, recorder  # measured

hook = sy.TorchHook(torch)
workers = [
    sy.VirtualWorker(hook, id=f"worker{number}")
    for number in range(federated_task.NUM_CLIENTS)
]
datasets = []
for number, worker in enumerate(workers):
    x, y = map(torch.from_numpy, federated_task.client(number))
    datasets.append(sy.BaseDataset(x, y.long()).send(worker))
loader = sy.FederatedDataLoader(
    sy.FederatedDataset(datasets), batch_size=federated_task.BATCH_SIZE
)
model = torch.nn.Sequential(
    torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
)
with torch.no_grad():
    for parameter, array in zip(model.parameters(), federated_task.initial()):
        parameter.copy_(torch.from_numpy(array.T))
criterion = torch.nn.CrossEntropyLoss()

for number in range(1, federated_task.rounds() + 1):
    local = {worker: model.copy().send(worker) for worker in workers}
    optimizers = {
        worker: torch.optim.SGD(local[worker].parameters(), lr=federated_task.RATE)
        for worker in workers
    }
    for data, target in loader:
        worker = data.location
        optimizers[worker].zero_grad()
        loss = criterion(local[worker](data), target)
        loss.backward()
        optimizers[worker].step()
    model = utils.federated_avg({w: local[w].get() for w in workers})
    recorder.round_done(
        number, [p.detach().numpy() for p in model.parameters()]
    )  # measured
