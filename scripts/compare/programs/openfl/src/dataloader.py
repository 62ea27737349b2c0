"""A collaborator's images, as OpenFL's template torch/mnist writes them."""

import torch
from compare import federated_task  # measured
from openfl.federated import PyTorchDataLoader


class Digits(PyTorchDataLoader):
    def __init__(self, data_path=None, batch_size=20, **kwargs):
        super().__init__(batch_size, **kwargs)
        if data_path is None:
            return
        self.X_train, self.y_train = federated_task.client(int(data_path) - 1)
        self.X_valid, self.y_valid = self.X_train, self.y_train

    def get_train_loader(self, batch_size=None, num_batches=None):
        x, y = torch.from_numpy(self.X_train), torch.from_numpy(self.y_train).long()
        dataset = torch.utils.data.TensorDataset(x, y)
        return torch.utils.data.DataLoader(dataset, batch_size=self.batch_size)

    def get_feature_shape(self):
        return [784]

    def get_num_classes(self):
        return 10
