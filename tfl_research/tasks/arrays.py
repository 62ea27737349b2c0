"""Tasks of arrays in memory, with your own data and Keras model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Union

from tfl_research.data import ClientData, Examples, conversion
from tfl_research.data.arrays import structures
from tfl_research.data.arrays.sequences import Sequences
from tfl_research.data.client_data import AnyBatching, check_fits
from tfl_research.tasks import own_data, padding
from tfl_research.tasks.pooled import Pooled
from tfl_research.tasks.task import Task

# Arrays by client: "x" and "y", or anything that NumPy turns into arrays.
Clients = Mapping[str, Mapping[str, Any]]


def from_arrays(
    clients: Clients,
    *,
    model: Callable[[], Any],
    objective: Any = None,
    test: Union[float, Clients] = 0.2,
    held_out: Union[float, Clients] = 0.0,
    batching: AnyBatching = own_data.BATCHING,
    seed: int = 0,
    name: str = "arrays",
    selection_metric: Optional[str] = None,
    label_names: Sequence[str] = (),
    public_data: bool = False,
    pooled: Sequence[Pooled] = (),
    sequences: Union[Sequences, Mapping[str, Sequences], None] = None,
    non_trainable: Optional[str] = None,
) -> Task:
    """Makes a task of arrays, for data that fit into memory.

    Floats become float32, labels that are integers or booleans become int32, and text
    becomes bytes. Nothing else is computed from the arrays: if a client or an example
    is added or removed, no other client's examples and no other split change.

    Args:
      clients: `{client id: {"x": [n, ...], "y": [n, ...]}}`. n may differ between
        clients; the trailing shapes and the dtypes may not. x may be a dict of arrays,
        for a model with several inputs by name. y may be a dict too, for an objective
        that takes a dict. x may be text, for a model that looks text up.
        `"sample_weight": [n]` multiplies the loss of each example. y may be missing if
        your own objective needs no labels.
      model: a function that returns a new Keras model, which maps x `[batch, ...]` to
        logits, or a model of TFF; see `Task.build_model`.
      objective: "classification" (labels are classes, a logit for each class; the
        default), "binary" (labels 0 and 1, one logit), "multi_label" (a 0 or 1 for each
        label), "regression" (squared error), "next_token" (sequences of token ids,
        padded with 0), "model" (the loss and the metrics of a TFF model); a loss of
        Keras, or a dict of such losses for several outputs; an `Objective`, or a
        function that returns an `Objective`. By default, a TFF model with another loss
        of its own is refused. If you give an objective, this objective counts, and a
        warning names the difference.
      test: the share of each client's examples that is held out for testing, in
        [0, 1), drawn by `hold_out.examples`; or test arrays by client, for some or all
        clients.
      held_out: the share of the clients that are never trained on, in [0, 1).
        `hold_out.clients` draws each client independently, so among few clients none
        may be drawn; or arrays of further clients.
      batching: how a client's examples become local steps in training.
      seed: seed of both draws.
      name: name of the task, for reports.
      selection_metric: the evaluation metric that picks the best model. The default is
        "accuracy" for classification and next_token, "auc" for binary, and "loss"
        otherwise.
      label_names: names of the classes, for reports.
      public_data: whether the data are published, see `Card.public_data`.
      pooled: facts that you computed from the rows of several clients or records
        before this call, such as a vocabulary; see `Task.pooled`.
      sequences: the length to which rows of different lengths are padded: of x (and of
        y, if the objective is "next_token"), or by array, as {"x/words": ...}.
      non_trainable: how training handles the model's non-trainable weights, see
        `Task.non_trainable`.

    Raises:
      ValueError: there are no clients; arrays disagree in names, shape, dtype or
        length; values are missing or not finite; the named objective does not take the
        labels; test arrays belong to an unknown client; a held-out client is also
        trained on; a fraction is outside [0, 1); there is no objective; or the model is
        not a function. Later, the task's `functional_model` raises ValueError if the
        function does not return an uncompiled model whose outputs fit the objective and
        the labels, and `build_objective` raises ValueError for an unknown name.

    Example:
      >>> import numpy as np
      >>> from tfl_research import tasks
      >>> def model():
      ...     import tensorflow as tf
      ...     layers = [tf.keras.layers.Input([2]), tf.keras.layers.Dense(3)]
      ...     return tf.keras.Sequential(layers)
      >>> x, y = np.random.rand(10, 2), np.arange(10) % 3
      >>> task = tasks.from_arrays(
      ...     {"north": {"x": x, "y": y}, "south": {"x": x + 1, "y": y}}, model=model
      ... )
      >>> task.train.num_examples("north") + task.test.num_examples("north")
      10
      >>> task.build_model().count_params()
      9
    """
    settings = own_data.TaskSettings(
        model,
        objective,
        0.0 if isinstance(test, Mapping) else test,
        0.0 if isinstance(held_out, Mapping) else held_out,
        batching,
        seed,
        name,
        selection_metric,
        label_names,
        public_data,
        pooled,
        sequences,
        non_trainable,
    )
    if not isinstance(clients, Mapping):
        raise ValueError(
            "clients must be arrays by client, {client id: {'x': ..., 'y': ...}}, got "
            f"{type(clients).__name__}"
        )
    given = {
        split: arrays
        for split, arrays in (("test", test), ("held_out", held_out))
        if isinstance(arrays, Mapping)
    }
    for client_id in given.get("held_out", ()):
        if client_id in clients:
            raise ValueError(f"held_out: client {client_id!r} is also trained on")
    lengths, longest = padding.resolved(
        settings.sequences_by_array(), [clients, *given.values()]
    )
    examples = _examples(clients, lengths)
    task = own_data.of_arrays(examples, settings, longest)
    for client_id in given.get("test", ()):
        if client_id not in task.train.client_ids:
            raise ValueError(
                f"test: {client_id!r} is not one of the {len(task.train)} clients "
                "to train on"
            )
    parts = {
        split: _further(split, each, lengths, settings, task.train)
        for split, each in given.items()
        if each
    }
    return dataclasses.replace(
        task,
        test=parts.get("test", task.test),
        held_out=parts.get("held_out", task.held_out),
    )


def _further(
    split: str,
    clients: Clients,
    lengths: Mapping[str, Sequences],
    settings: own_data.TaskSettings,
    train: ClientData,
) -> ClientData:
    """Makes the client data of a split whose arrays are given.

    Args:
      split: "test", whose clients are the training clients, or "held_out".
      clients: the arrays; a training client may be missing in "test".
      lengths: how rows of different lengths are padded, by flat name.
      settings: the settings of the task.
      train: the training examples, whose arrays have the same types and shapes.

    Raises:
      ValueError: arrays differ from those in training, or the objective does not take
        the labels; the message names split, client and array.
    """
    nothing = structures.no_examples(train.specs)
    try:
        found = {
            client_id: settings.labelled(client_id, each)
            for client_id, each in _examples(clients, lengths).items()
        }
        dtypes = {name: spec.dtype for name, spec in train.specs.items()}
        found = own_data.with_types(found, lengths, dtypes)
        for client_id, each in found.items():
            if not structures.num_examples(each) and each.keys() == nothing.keys():
                found[client_id] = nothing
            else:
                check_fits(client_id, each, train.specs, "training")
    except ValueError as error:
        raise ValueError(f"{split}: {error}") from None
    if split == "test":
        found = {i: found.get(i, nothing) for i in train.client_ids}
    return ClientData.from_arrays(found)


def _examples(
    clients: Clients, lengths: Mapping[str, Sequences]
) -> dict[str, Examples]:
    """Converts the clients' arrays; an empty client gets empty arrays of the specs."""
    found = {i: conversion.converted(i, each, lengths) for i, each in clients.items()}
    filled = [each for each in found.values() if structures.num_examples(each)]
    if filled:
        empty = {name: array[:0] for name, array in filled[0].items()}
        for client_id, each in found.items():
            if not structures.num_examples(each) and each.keys() == empty.keys():
                found[client_id] = empty
    return found
