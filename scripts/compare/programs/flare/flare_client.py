"""A client of FLARE's job, as the example "hello-pt" writes it."""

import nvflare.client as flare
import torch
from compare import federated_task, recorder  # measured
from flare_model import Network
from torch.utils.data import DataLoader, TensorDataset

flare.init()
site = int(flare.get_site_name().split("-")[1])
x, y = federated_task.client(site - 1)
dataset = TensorDataset(torch.from_numpy(x), torch.from_numpy(y).long())
loader = DataLoader(dataset, batch_size=federated_task.BATCH_SIZE)
model = Network()
criterion = torch.nn.CrossEntropyLoss()
while flare.is_running():
    received = flare.receive()
    # The model after the round before, and the first to see it.
    if site == 1 and received.current_round > 0:  # measured
        arrays = list(received.params.values())  # measured
        recorder.round_done(received.current_round, arrays)  # measured
    model.load_state_dict(
        {name: torch.as_tensor(value) for name, value in received.params.items()}
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=federated_task.RATE)
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
    flare.send(
        flare.FLModel(
            params=model.state_dict(),
            metrics={"loss": loss.item()},
            meta={"NUM_STEPS_CURRENT_ROUND": len(loader)},
        )
    )
