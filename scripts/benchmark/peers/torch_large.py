"""The larger models in torch, for the peers that train with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmark.large import Block, Large, blocks

_GROUPS = 2


def network(spec: Large) -> nn.Module:
    """A network that gives logits `[..., classes]`, with the initial weights."""
    made: Any = {"lstm": _Lstm, "transformer": _Transformer, "resnet": _ResNet}
    result = made[spec.model](spec)
    values = iter(spec.initial_weights())
    with torch.no_grad():
        for module in result.in_order():
            _fill(module, values)
    if next(values, None) is not None:
        raise ValueError("the network has fewer weights than the workload")
    return result


def _fill(module: Any, values: Iterator[np.ndarray]) -> None:
    """Copies the next of Keras' weights into a module."""
    if isinstance(module, nn.LSTM):
        for layer in range(module.num_layers):
            _copy(getattr(module, f"weight_ih_l{layer}"), next(values).T)
            _copy(getattr(module, f"weight_hh_l{layer}"), next(values).T)
            _copy(getattr(module, f"bias_ih_l{layer}"), next(values))
            # Keras has one bias, and torch the sum of two.
            second = getattr(module, f"bias_hh_l{layer}")
            second.zero_()
            second.requires_grad_(False)
    elif isinstance(module, nn.Parameter):
        _copy(module, next(values))
    elif isinstance(module, nn.Embedding):
        _copy(module.weight, next(values))
    elif isinstance(module, nn.Conv2d):
        _copy(module.weight, next(values).transpose(3, 2, 0, 1))
    else:  # A linear layer's kernel, or a norm's vector, and a bias.
        _copy(module.weight, next(values).T)
        _copy(module.bias, next(values))


def _copy(parameter: Any, value: np.ndarray) -> None:
    if tuple(parameter.shape) != value.shape:
        raise ValueError(f"{value.shape} for a parameter of {tuple(parameter.shape)}")
    parameter.copy_(torch.from_numpy(value.copy()))


class _Lstm(nn.Module):
    def __init__(self, spec: Large):
        super().__init__()
        self.embedding = nn.Embedding(spec.num_classes, spec.embedding)
        self.lstm = nn.LSTM(
            spec.embedding, spec.width, num_layers=spec.layers, batch_first=True
        )
        inputs = spec.projection or spec.width
        head = [nn.Linear(spec.width, inputs)] if spec.projection else []
        self.head = nn.Sequential(*head, nn.Linear(inputs, spec.num_classes))
        self.every_step = spec.every_step

    def in_order(self) -> list[Any]:
        return [self.embedding, self.lstm, *self.head]

    def forward(self, x: Any) -> Any:
        sequence, _ = self.lstm(self.embedding(x))
        return self.head(sequence if self.every_step else sequence[:, -1])


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.parts = nn.ModuleList([nn.Linear(width, width) for _ in range(3)])
        self.output = nn.Linear(width, width)
        self.wide, self.narrow = (
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def in_order(self) -> list[Any]:
        attention = [self.first, *self.parts, self.output]
        return [*attention, self.second, self.wide, self.narrow]

    def forward(self, x: Any) -> Any:
        count, length, width = x.shape
        normed = self.first(x)
        query, key, value = (
            part(normed).view(count, length, self.heads, -1).transpose(1, 2)
            for part in self.parts
        )
        mixed = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True
        )
        x = x + self.output(mixed.transpose(1, 2).reshape(count, length, width))
        return x + self.narrow(functional.relu(self.wide(self.second(x))))


class _Transformer(nn.Module):
    def __init__(self, spec: Large):
        super().__init__()
        self.embedding = nn.Embedding(spec.num_classes, spec.width)
        self.positions = nn.Parameter(torch.zeros(spec.length, spec.width))
        self.layers = nn.ModuleList(
            [_Layer(spec.width, spec.heads) for _ in range(spec.layers)]
        )
        self.norm = nn.LayerNorm(spec.width)
        self.head = nn.Linear(spec.width, spec.num_classes)

    def in_order(self) -> list[Any]:
        inner = [part for layer in self.layers for part in layer.in_order()]
        return [self.embedding, self.positions, *inner, self.norm, self.head]

    def forward(self, x: Any) -> Any:
        x = self.embedding(x) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class _Convolution(nn.Module):
    """With Keras' padding, which is uneven for a stride of 2, and a norm."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1):
        super().__init__()
        self.weights = nn.Conv2d(inputs, outputs, side, stride, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, outputs, eps=1e-3)
        before, after = (side - stride) // 2, (side - stride + 1) // 2
        self.padding = (before, after) * 2 if side > 1 else (0, 0, 0, 0)

    def forward(self, x: Any) -> Any:
        return self.norm(self.weights(functional.pad(x, self.padding)))


class _Block(nn.Module):
    def __init__(self, block: Block):
        super().__init__()
        self.first = _Convolution(block.inputs, block.channels, 3, block.stride)
        self.second = _Convolution(block.channels, block.channels, 3)
        self.skip = (
            _Convolution(block.inputs, block.channels, 1, block.stride)
            if block.projects
            else None
        )

    def in_order(self) -> list[Any]:
        last = [self.second] if self.skip is None else [self.second, self.skip]
        kernels, norms = [c.weights for c in last], [c.norm for c in last]
        return [self.first.weights, self.first.norm, *kernels, *norms]

    def forward(self, x: Any) -> Any:
        inner = self.second(functional.relu(self.first(x)))
        return functional.relu(inner + (x if self.skip is None else self.skip(x)))


class _ResNet(nn.Module):
    def __init__(self, spec: Large):
        super().__init__()
        self.start = _Convolution(3, spec.width, 3)
        self.blocks = nn.ModuleList([_Block(block) for block in blocks(spec)])
        self.head = nn.Linear(spec.width << (spec.layers - 1), spec.num_classes)

    def in_order(self) -> list[Any]:
        inner = [part for block in self.blocks for part in block.in_order()]
        return [self.start.weights, self.start.norm, *inner, self.head]

    def forward(self, x: Any) -> Any:
        x = functional.relu(self.start(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


def tensors(spec: Large, examples: dict[str, Any]) -> tuple[Any, Any]:
    """A client's examples as torch takes them, channels first."""
    x = torch.from_numpy(examples["x"])
    x = x.permute(0, 3, 1, 2).contiguous() if spec.model == "resnet" else x.long()
    return x, torch.from_numpy(examples["y"]).long()
