"""The network of FLARE's job."""

import torch
from compare import federated_task  # measured


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
