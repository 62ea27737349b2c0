"""The `stackoverflow` task: next word by user, through TFF's loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfl_research.data import (
    ClientData,
    Examples,
    client_splits,
    hold_out,
    tff_adapter,
)
from tfl_research.tasks.built_in import downloads
from tfl_research.tasks.pooled import RECORD, Pooled
from tfl_research.tasks.task import Card, Task

PAD_ID, BEGIN_ID, END_ID, UNKNOWN_ID = range(4)
NUM_SPECIAL_IDS = 4


def sequence_encoder(
    words: Iterable[str], sequence_length: int
) -> Callable[[Mapping[str, np.ndarray]], Examples]:
    """Makes a function from sentences to inputs, with the next words as labels.

    A sentence is cut to its first `sequence_length` words, begins with `BEGIN_ID`
    and, when it is shorter than that, ends with `END_ID`; the rest is `PAD_ID`.
    Words outside of the vocabulary are `UNKNOWN_ID`.

    Args:
      words: the vocabulary; the first word's id is `NUM_SPECIAL_IDS`.
      sequence_length: L, at least 1.

    Returns:
      (`{"tokens": bytes [n]}`) -> x and y, int32 `[n, L]`.
    """
    ids = {word: number for number, word in enumerate(words, start=NUM_SPECIAL_IDS)}

    def convert(columns: Mapping[str, np.ndarray]) -> Examples:
        sentences = columns["tokens"]
        padded = np.full((len(sentences), sequence_length + 1), PAD_ID, np.int32)
        padded[:, 0] = BEGIN_ID
        for row, sentence in enumerate(sentences):
            tokens = sentence.decode().split()[:sequence_length]
            padded[row, 1 : len(tokens) + 1] = [ids.get(t, UNKNOWN_ID) for t in tokens]
            if len(tokens) < sequence_length:
                padded[row, len(tokens) + 1] = END_ID
        return {"x": padded[:, :-1], "y": padded[:, 1:]}

    return convert


def _synthetic(
    datasets: Any, sequence_length: int, vocabulary_size: int, seed: int
) -> tuple[list[str], ClientData, ClientData, ClientData]:
    """Loads the words, and train, test and held-out clients, of TFF's sample."""
    loader = datasets.stackoverflow
    words = list(loader.get_synthetic_word_counts())[:vocabulary_size]
    convert = sequence_encoder(words, sequence_length)
    everyone = tff_adapter.from_tff(loader.get_synthetic(), convert)
    training_ids, held_out_ids = hold_out.clients(
        everyone.client_ids, count=1, seed=seed
    )
    train, test = client_splits.split_each_client(
        everyone.subset(training_ids), test_fraction=0.3, seed=seed
    )
    return words, train, test, everyone.subset(held_out_ids)


def _downloaded(
    datasets: Any,
    sequence_length: int,
    vocabulary_size: int,
    maximum_examples: int,
    cache_dir: str | None,
) -> tuple[list[str], ClientData, ClientData, ClientData]:
    """Loads the words, and train, test and held-out clients, of the whole data set."""
    loader = datasets.stackoverflow
    words = downloads.loaded(
        "stackoverflow",
        downloads.word_count_folder(cache_dir) / "stackoverflow.word_count.tar.bz2",
        lambda: list(loader.load_word_counts(cache_dir, vocabulary_size)),
    )
    parts = downloads.loaded(
        "stackoverflow",
        downloads.database_folder(cache_dir) / "stackoverflow.sqlite",
        lambda: loader.load_data(cache_dir),
    )
    convert = sequence_encoder(words, sequence_length)
    train, held_out, test = (
        tff_adapter.from_tff(part, convert, maximum_examples=maximum_examples)
        for part in parts
    )
    # Most users wrote nothing after the date that divides train from test.
    return words, train, tff_adapter.union([test], train.client_ids), held_out


def build(
    *,
    seed: int = 0,
    vocabulary_size: int = 10_000,
    sequence_length: int = 20,
    maximum_examples: int = 512,
    held_out_users: int = 100,
    embedding_size: int = 96,
    lstm_units: int = 670,
    synthetic: bool = False,
    cache_dir: str | None = None,
) -> Task:
    """Builds next-word prediction on the sentences of 342,477 Stack Overflow users.

    Vocabulary, sequences and model are those of Reddi et al. 2020 (arXiv
    2003.00295). Unlike in this paper, the accuracy also counts end-of-sentence and
    unknown words.

    Args:
      seed: decides which held-out users are evaluated, and the splits of synthetic
        clients.
      vocabulary_size: number of words, the most frequent words of the data; four
        special ids are added.
      sequence_length: largest number of words that are used of a sentence.
      maximum_examples: largest number of sentences, a user's first sentences.
      held_out_users: how many of the 38,758 held-out users to evaluate on.
      embedding_size: the size of words' embeddings, and of the layer after the LSTM.
      lstm_units: width of the LSTM.
      synthetic: whether to use TFF's three hard-coded clients of eight sentences in
        all, with one client held out. This needs no download.
      cache_dir: folder of stackoverflow.sqlite and of
        datasets/stackoverflow.word_count.tar.bz2, by default `~/.tff` and `~/.keras`.
        Missing files are downloaded into the folder (the database is very large).

    Raises:
      ValueError: the data cannot be downloaded or read, or a number is below 1.
    """
    for name, value in (
        ("vocabulary_size", vocabulary_size),
        ("sequence_length", sequence_length),
        ("maximum_examples", maximum_examples),
        ("held_out_users", held_out_users),
        ("embedding_size", embedding_size),
        ("lstm_units", lstm_units),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    datasets = downloads.simulation_datasets()
    if synthetic:
        words, train, test, held_out = _synthetic(
            datasets, sequence_length, vocabulary_size, seed
        )
    else:
        words, train, test, held_out = _downloaded(
            datasets, sequence_length, vocabulary_size, maximum_examples, cache_dir
        )
        if held_out_users < len(held_out):
            _, evaluated = hold_out.clients(
                held_out.client_ids, count=held_out_users, seed=seed
            )
            held_out = held_out.subset(evaluated)
    num_ids = len(words) + NUM_SPECIAL_IDS

    def build_model() -> Any:
        from tfl_research.models.architectures import word_models

        return word_models.lstm(
            num_ids,
            length=sequence_length,
            embedding_size=embedding_size,
            lstm_units=lstm_units,
        )

    def build_objective() -> Any:
        from tfl_research.tasks import objectives

        return objectives.next_token(PAD_ID)

    card = Card(
        title="Stack Overflow" + (", TFF's synthetic sample" if synthetic else ""),
        client_unit="user",
        target=f"the next word of a sentence, {len(words)} words and 3 marks (begin, "
        "end, unknown): the standard benchmark of language at the scale of a keyboard",
        source="tff.simulation.datasets.stackoverflow: Stack Overflow's data dump on "
        "Kaggle; sentences before 2018 train, later ones test",
        licence="CC BY-SA 3.0",
        public_data=True,
        public_knowledge=("the date that divides training from test sentences",),
    )
    return Task(
        name="stackoverflow",
        card=card,
        train=train,
        test=test,
        held_out=held_out,
        build_model=build_model,
        build_objective=build_objective,
        pooled=(
            Pooled("the vocabulary", "the words of all users in training"),
            Pooled(
                f"which {maximum_examples} sentences of a user are used",
                "the order of all sentences of the user",
                RECORD,
            ),
        ),
    )
