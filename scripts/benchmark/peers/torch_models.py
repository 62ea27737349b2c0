"""The models in torch, for the peers that train with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmark.images import Images
from benchmark.large import Large
from benchmark.peers import torch_large
from benchmark.specs import Spec


def network(images: Spec) -> nn.Module:
    """A network that gives logits, with the workload's initial weights."""
    if isinstance(images, Large):
        return torch_large.network(images)
    result = _mlp(images) if images.model == "mlp" else _cnn(images)
    layers = [layer for layer in result if isinstance(layer, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        for layer, (kernel, bias) in zip(layers, images.initial_weights()):
            axes = (1, 0) if kernel.ndim == 2 else (3, 2, 0, 1)
            layer.weight.copy_(torch.from_numpy(kernel.transpose(axes).copy()))
            layer.bias.copy_(torch.from_numpy(bias))
    return result


def _mlp(images: Images) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, images.num_classes)
    )


class _ChannelsLast(nn.Module):
    """`[batch, channels, height, width]` -> `[batch, height, width, channels]`.

    The rows of the first dense kernel are in Keras' order.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Moves the axis of the channels."""
        return x.permute(0, 2, 3, 1)


def _cnn(images: Images) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        _ChannelsLast(),
        nn.Flatten(),
        nn.Linear(64 * 12 * 12, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, images.num_classes),
    )


def tensors(images: Spec, examples: dict[str, Any]) -> tuple[Any, Any]:
    """A client's examples as torch takes them, channels first."""
    if isinstance(images, Large):
        return torch_large.tensors(images, examples)
    x = torch.from_numpy(examples["x"])
    if images.model == "cnn":
        x = x.permute(0, 3, 1, 2).contiguous()
    return x, torch.from_numpy(examples["y"]).long()
