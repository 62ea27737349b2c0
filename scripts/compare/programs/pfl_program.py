"""pfl, as its tutorial "Introduction to Federated Learning with PyTorch" writes it."""

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback  # measured
from pfl.callback.restore_training import RestoreTrainingCallback
from pfl.data import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import (
    Metrics,  # measured
    Weighted,
)
from pfl.model.pytorch import PyTorchModel

from compare import federated_task, recorder  # measured


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
        )
        self.criterion = torch.nn.CrossEntropyLoss()

    def loss(self, x, y, eval=False):
        self.train(not eval)
        return self.criterion(self.layers(x), y)

    @torch.no_grad()
    def metrics(self, x, y):
        return {"loss": Weighted(self.loss(x, y, eval=True).item() * len(y), len(y))}


class Recorder(TrainingProcessCallback):  # measured
    def after_central_iteration(  # measured
        self,
        aggregate_metrics,
        model,
        *,
        central_iteration,  # measured
    ):  # measured
        weights = [w.detach().numpy() for w in model.variable_map.values()]  # measured
        recorder.round_done(central_iteration + 1, weights)  # measured
        return False, Metrics()  # measured


users = {}
for number in range(federated_task.NUM_CLIENTS):
    x, y = federated_task.client(number)
    users[str(number)] = [torch.from_numpy(x), torch.from_numpy(y).long()]
sampler = get_user_sampler("minimize_reuse", list(users))
data = FederatedDataset.from_slices(users, sampler)
backend = SimulatedBackend(
    training_data=data, val_data=None, postprocessors=[WeightByDatapoints()]
)
module = Classifier()
with torch.no_grad():
    for parameter, array in zip(module.parameters(), federated_task.initial()):
        parameter.copy_(torch.from_numpy(array.T))
model = PyTorchModel(
    model=module,
    local_optimizer_create=torch.optim.SGD,
    central_optimizer=torch.optim.SGD(module.parameters(), 1.0),
)
algorithm = FederatedAveraging()
algorithm.run(
    algorithm_params=NNAlgorithmParams(
        central_num_iterations=federated_task.rounds(),
        evaluation_frequency=federated_task.rounds(),
        train_cohort_size=federated_task.NUM_CLIENTS,
        val_cohort_size=0,
    ),
    backend=backend,
    model=model,
    model_train_params=NNTrainHyperParams(
        local_learning_rate=federated_task.RATE,
        local_num_epochs=1,
        local_batch_size=federated_task.BATCH_SIZE,
    ),
    model_eval_params=NNEvalHyperParams(local_batch_size=None),
    callbacks=[
        RestoreTrainingCallback(
            [algorithm, model], str(federated_task.output() / "checkpoints")
        ),
        Recorder(),  # measured
    ],
)
