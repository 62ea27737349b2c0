"""Flower, as its tutorial "Quickstart PyTorch" writes it, simulated.

Checkpoints are as the page "Save and load model checkpoints" writes them.
"""

import os

import torch
from flower_client import app as client_app, network
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from compare import federated_task, recorder  # measured

app = ServerApp()
checkpoint = federated_task.output() / "checkpoint.pt"


@app.main()
def main(grid, context):
    model = network()
    kernel, bias, last_kernel, last_bias = map(
        torch.from_numpy, federated_task.initial()
    )
    model.load_state_dict(
        {"0.weight": kernel.T, "0.bias": bias, "2.weight": last_kernel.T}
        | {"2.bias": last_bias}
    )
    done = 0
    if checkpoint.exists():
        kept = torch.load(checkpoint)
        done = kept["round"]
        model.load_state_dict(kept["model"])

    def save(server_round, arrays):
        if server_round == 0:
            return MetricRecord()
        kept = {"round": done + server_round, "model": arrays.to_torch_state_dict()}
        torch.save(kept, checkpoint.with_suffix(".part"))
        checkpoint.with_suffix(".part").replace(checkpoint)
        recorder.round_done(done + server_round, arrays.to_numpy_ndarrays())  # measured
        return MetricRecord()

    FedAvg(fraction_train=1.0, fraction_evaluate=0.0).start(
        grid=grid,
        initial_arrays=ArrayRecord(model.state_dict()),
        train_config=ConfigRecord({"lr": federated_task.RATE}),
        num_rounds=federated_task.rounds() - done,
        evaluate_fn=save,
    )


run_simulation(
    server_app=app,
    client_app=client_app,
    num_supernodes=federated_task.NUM_CLIENTS,
    backend_config={
        "init_args": {"num_cpus": os.cpu_count()},
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    },
)
