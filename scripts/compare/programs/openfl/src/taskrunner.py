"""Model and training, as OpenFL's template torch/mnist writes them."""

import numpy as np
import torch
from compare import federated_task, recorder  # measured
from openfl.federated import PyTorchTaskRunner
from openfl.utilities import Metric


class Classifier(PyTorchTaskRunner):
    def __init__(self, device="cpu", **kwargs):
        super().__init__(device=device, **kwargs)
        self.hidden = torch.nn.Linear(784, 128)
        self.last = torch.nn.Linear(128, 10)
        parameters = self.hidden.weight, self.hidden.bias
        parameters += self.last.weight, self.last.bias
        with torch.no_grad():
            for parameter, array in zip(parameters, federated_task.initial()):
                parameter.copy_(torch.from_numpy(array.T))
        self.to(device)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=federated_task.RATE)
        self.loss_fn = torch.nn.CrossEntropyLoss()

    def forward(self, x):
        return self.last(torch.relu(self.hidden(x)))

    collaborator = 0  # measured

    def rebuild_model(self, round_num, input_tensor_dict, validation=False):  # measured
        super().rebuild_model(round_num, input_tensor_dict, validation)  # measured
        # The model after the round before, and the first to see it.
        is_first = self.data_loader.X_train is not None  # measured
        if (
            is_first and round_num > 0 and not validation and self.collaborator == 1
        ):  # measured
            layers = self.hidden, self.last  # measured
            arrays = [t for n in layers for t in (n.weight, n.bias)]  # measured
            recorder.round_done(  # measured
                round_num,
                [a.detach().numpy() for a in arrays],  # measured
            )  # measured

    def train_task(self, col_name, *arguments, **kwargs):  # measured
        self.collaborator = int(col_name[len("collaborator") :])  # measured
        return super().train_task(col_name, *arguments, **kwargs)  # measured

    def train_(self, train_dataloader):
        losses = []
        for inputs, labels in train_dataloader:
            self.optimizer.zero_grad()
            loss = self.loss_fn(self(inputs), labels)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return Metric(name="crossentropy_loss", value=np.array(np.mean(losses)))

    def validate_(self, validation_dataloader):
        correct = total = 0
        for inputs, labels in validation_dataloader:
            guesses = self(torch.as_tensor(inputs)).argmax(dim=1)
            correct += int((guesses == torch.as_tensor(labels)).sum())
            total += len(labels)
        return Metric(name="accuracy", value=np.array(correct / total))
