"""The server's side: Flower's FedAvg, with the settings of the run."""

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from flower_training import tfl_training

app = ServerApp()


@app.main()
def main(grid, context):
    """Runs the rounds, and writes the last model and each round's metrics."""
    settings = context.run_config
    strategy = FedAvg(
        fraction_train=float(settings["fraction-fit"]),
        fraction_evaluate=float(settings["fraction-evaluate"]),
        min_train_nodes=int(settings["min-fit-clients"]),
        min_evaluate_nodes=int(settings["min-evaluate-clients"]),
        min_available_nodes=int(settings["min-available-clients"]),
        weighted_by_key="num-examples",
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(tfl_training.load(settings["weights-file"])),
        num_rounds=int(settings["num-rounds"]),
        timeout=float(settings["round-seconds"]),
    )
    arrays = result.arrays.to_numpy_ndarrays()
    np.savez(settings["result-file"], **tfl_training.named(arrays))
    for number, metrics in sorted(result.evaluate_metrics_clientapp.items()):
        print(f"round {number}: {dict(metrics)}", flush=True)
