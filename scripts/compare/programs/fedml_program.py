"""FedML, as its example "sp_fedavg_mnist_lr" writes it step by step."""

import fedml
import torch
from fedml import FedMLRunner, mlops
from torch.utils.data import DataLoader, TensorDataset

from compare import federated_task, recorder  # measured


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = torch.nn.Linear(784, 128)
        self.last = torch.nn.Linear(128, 10)
        with torch.no_grad():
            for parameter, array in zip(self.parameters(), federated_task.initial()):
                parameter.copy_(torch.from_numpy(array.T))

    def forward(self, x):
        return self.last(torch.relu(self.hidden(x)))


def load_data(args):
    datasets = []
    for number in range(args.client_num_in_total):
        x, y = map(torch.from_numpy, federated_task.client(number))
        datasets.append(TensorDataset(x, y.long()))
    everything = torch.utils.data.ConcatDataset(datasets)
    together = DataLoader(everything, batch_size=args.batch_size)
    local = {
        number: DataLoader(dataset, batch_size=args.batch_size)
        for number, dataset in enumerate(datasets)
    }
    sizes = {number: len(dataset) for number, dataset in enumerate(datasets)}
    total = len(everything)
    return [total, total, together, together, sizes, local, local, 10]


args = fedml.init()
args.comm_round = federated_task.rounds()
device = fedml.device.get_device(args)
model = Network()

logged = mlops.log_round_info  # measured


def log_round_info(rounds, number):  # measured
    logged(rounds, number)  # measured
    if number >= 0:  # measured
        weights = [p.detach().numpy() for p in model.parameters()]  # measured
        recorder.round_done(number + 1, weights)  # measured


mlops.log_round_info = log_round_info  # measured
FedMLRunner(args, device, load_data(args), model).run()
