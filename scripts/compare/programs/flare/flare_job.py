"""FLARE, as its example "hello-pt" writes it, in FLARE's simulator."""

import pathlib

import torch  # measured
from compare import federated_task, recorder  # measured
from flare_model import Network
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe import SimEnv

recipe = FedAvgRecipe(
    name="digits",
    min_clients=federated_task.NUM_CLIENTS,
    num_rounds=federated_task.rounds(),
    model=Network(),
    train_script=str(pathlib.Path(__file__).with_name("flare_client.py")),
)
environment = SimEnv(
    num_clients=federated_task.NUM_CLIENTS,
    workspace_root=str(federated_task.output() / "workspace"),
)
run = recipe.execute(environment)
print(run.get_status(), run.get_result())
(path,) = pathlib.Path(run.get_result()).rglob("FL_global_model.pt")  # measured
model = torch.load(path, weights_only=False)["model"]  # measured
recorder.round_done(federated_task.rounds(), list(model.values()))  # measured
