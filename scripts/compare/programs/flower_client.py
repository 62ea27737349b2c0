"""Flower's ClientApp, as its tutorial "Quickstart PyTorch" writes it."""

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.utils.data import DataLoader, TensorDataset

from compare import federated_task  # measured

app = ClientApp()


def network():
    return torch.nn.Sequential(
        torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    )


@app.train()
def train(message, context):
    x, y = federated_task.client(context.node_config["partition-id"])
    dataset = TensorDataset(torch.from_numpy(x), torch.from_numpy(y).long())
    loader = DataLoader(dataset, batch_size=federated_task.BATCH_SIZE)
    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=message.content["config"]["lr"])
    criterion = torch.nn.CrossEntropyLoss()
    total = 0.0
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
    metrics = {"train_loss": total / len(loader), "num-examples": len(dataset)}
    content = {
        "arrays": ArrayRecord(model.state_dict()),
        "metrics": MetricRecord(metrics),
    }
    return Message(content=RecordDict(content), reply_to=message)
