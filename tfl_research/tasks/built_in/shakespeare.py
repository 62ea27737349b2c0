"""Next-character prediction on Shakespeare's plays; clients are speaking roles."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfl_research.data import Batching, ClientData, hold_out
from tfl_research.data.packaged import package_file
from tfl_research.storage.files import user_cache
from tfl_research.tasks.built_in import play_texts
from tfl_research.tasks.pooled import RECORD, Pooled, held_out_share
from tfl_research.tasks.task import Card, Task

if TYPE_CHECKING:
    from tfl_research.tasks.objectives import Objective

# The alphabet is fixed and public. An alphabet from the data would leak the texts.
CHARACTERS = (
    "\n !\"&'(),-.:;?0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
PAD_ID = 0
OUT_OF_VOCABULARY_ID = len(CHARACTERS) + 1
VOCABULARY_SIZE = len(CHARACTERS) + 2

# Poems have no speaking roles.
_POEMS = frozenset(
    [
        "lovers_complaint",
        "passionate_pilgrim",
        "phoenix_and_the_turtle",
        "rape_of_lucrece",
        "sonnets",
    ]
)

# Cues of one person: abbreviations, misprints, and names that change with a
# title. Cues that may be two people (Hamlet's "Lord." and "Gent.") stay apart.
_ALIASES: Mapping[str, Mapping[str, str]] = {
    "antony_and_cleopatra": {"THYMUS": "THYREUS"},
    "coriolanus": {"MARCIUS": "CORIOLANUS", "TITUS LARTIUS": "LARTIUS"},
    "hamlet": {"FOR": "FORT", "FIRST PLAYER": "FIRST PLAY"},
    "henry_iv_part_1": {"LADY P": "LADY"},
    "henry_v": {"KING": "KING HENRY"},
    "henry_vi_part_1": {"PLANTAGENET": "YORK", "CARDINAL": "WINCHESTER"},
    "henry_vi_part_2": {"KING HENRY": "KING"},
    "henry_vi_part_3": {
        "EDWARD": "KING EDWARD",
        "GEORGE": "CLARENCE",
        "LADY GREY": "QUEEN ELIZABETH",
        "LEWIS": "KING LEWIS",
        "RICHARD": "GLOSTER",
    },
    "henry_viii": {"KATHERINE": "QUEEN KATHERINE"},
    "merchant_of_venice": {"DUKE OF VENICE": "DUKE"},
    "pericles": {
        "HELCANUS": "HELICANUS",
        "HELICANE": "HELICANUS",
        "PERACLES": "PERICLES",
    },
    "richard_ii": {"HENRY PERCY": "PERCY"},
    "richard_iii": {"GLOSTER": "KING RICHARD"},
    "romeo_and_juliet": {"CHOR": "CHORUS", "FRIAR LAWRENCE": "FRIAR"},
    "timon_of_athens": {"LUCULLIUS": "LUCULLUS"},
    "troilus_and_cressida": {"AGAME": "AGAMEMNON", "ANDARUS": "PANDARUS"},
    "twelfth_night": {"AGUE-CHEEK": "SIR ANDREW"},
}

_MODELS = ("dense", "lstm")


@functools.lru_cache(maxsize=1)
def roles() -> dict[str, str]:
    """Returns the text of each role, `{"play/ROLE": text}`, in a fixed order.

    Speeches and verses are separated by newlines. The plays are read once per process.
    Their speeches are kept in the user's cache, since finding them takes half a second.

    Raises:
      ValueError: the package with the plays is not installed.
    """
    folder = package_file("shksprdata", "texts")
    # The folio editions, *_gut_f.txt, are the same plays in old spelling.
    paths = {p.name[: -len("_gut.txt")]: p for p in sorted(folder.glob("*_gut.txt"))}
    plays = {
        play: path.read_bytes() for play, path in paths.items() if play not in _POEMS
    }
    if not plays:
        raise ValueError(f"{folder} has no play; expected *_gut.txt files")
    content = user_cache.computed(
        "shakespeare",
        {
            "plays": {p: hashlib.sha256(t).hexdigest() for p, t in plays.items()},
            "code": [
                hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()
                for file in (__file__, play_texts.__file__)
            ],
            # Python's regular expressions and character tables find the speeches.
            "python": sys.version,
        },
        lambda: json.dumps(_spoken(plays)).encode(),
    )
    result: dict[str, str] = json.loads(content)
    return result


def _spoken(plays: Mapping[str, bytes]) -> dict[str, str]:
    """Finds the text of each role of the plays; see `roles`."""
    return {
        f"{play}/{role}": "\n".join(spoken)
        for play, content in plays.items()
        for role, spoken in play_texts.speeches(
            io.TextIOWrapper(io.BytesIO(content), "latin-1").read(), _ALIASES.get(play)
        ).items()
    }


def encode(text: str) -> np.ndarray:
    """Encodes text as int32 `[len(text)]`: 1 to 76 in the order of CHARACTERS."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return _id_of_code()[np.minimum(codes, 127)]


@functools.lru_cache(maxsize=1)
def _id_of_code() -> np.ndarray:
    table = np.full(128, OUT_OF_VOCABULARY_ID, np.int32)
    for index, character in enumerate(CHARACTERS):
        table[ord(character)] = index + 1
    return table


def windows(ids: np.ndarray, context: int, maximum: int) -> dict[str, np.ndarray]:
    """Makes examples of `context` characters in a row and the next character.

    Returns:
      `x` int32 `[n, context]` and `y` int32 `[n]`; at most `maximum` examples,
      taken at equal distances so that they cover the whole text.
    """
    starts = np.arange(max(0, len(ids) - context))
    if len(starts) > maximum:
        starts = starts[(np.arange(maximum) * len(starts)) // maximum]
    return {
        "x": ids[starts[:, np.newaxis] + np.arange(context)].astype(np.int32),
        "y": ids[starts + context].astype(np.int32),
    }


def sequences(ids: np.ndarray, length: int, maximum: int) -> dict[str, np.ndarray]:
    """Makes sequences of `length` characters, with the next characters as labels.

    The sequences follow one another in the text; the last is padded with `PAD_ID`.

    Returns:
      `x` and `y`, int32 `[n, length]`, of at most the first `maximum` sequences.
    """
    count = min(-(-max(0, len(ids) - 1) // length), maximum)
    padded = np.full(count * length + 1, PAD_ID, np.int32)
    used = ids[: len(padded)]
    padded[: len(used)] = used
    return {
        "x": padded[:-1].reshape(count, length),
        "y": padded[1:].reshape(count, length),
    }


def build(
    *,
    seed: int = 0,
    model: str = "dense",
    context: int = 10,
    sequence_length: int = 80,
    minimum_characters: int = 500,
    maximum_examples: int = 1000,
    test_fraction: float = 0.2,
    held_out_fraction: float = 0.1,
    lstm_units: int = 128,
    lstm_layers: int = 1,
) -> Task:
    """Builds the task.

    Each role's text is cut in time: its first part trains, the rest tests, and
    no example reaches across the cut, as in LEAF (Caldas et al. 2018,
    arXiv 1812.01097).

    Args:
      seed: decides which roles are held out.
      model: "dense" reads the last `context` characters (x int32 `[context]`,
        y int32 `[]`); "lstm" reads sequences (x and y int32
        `[sequence_length]`), as in McMahan et al. 2017 (arXiv 1602.05629).
      context: number of characters that the dense model reads.
      sequence_length: number of characters in a sequence of the LSTM.
      minimum_characters: roles with less text are left out.
      maximum_examples: the largest number of examples in a role's training split, and
        of a held-out role. The limit of the test split is this number times the test
        split's share of the text.
      test_fraction: the share of each role's text in its test split, in [0, 1).
      held_out_fraction: the share of held-out roles, in [0, 1).
      lstm_units: width of each LSTM layer (256 in the paper).
      lstm_layers: number of LSTM layers (2 in the paper).

    Raises:
      ValueError: an option is out of range, no role has enough text, or the
        package with the plays is not installed.
    """
    if model not in _MODELS:
        raise ValueError(f"model must be one of {', '.join(_MODELS)}, got {model!r}")
    for name, value in (
        ("context", context),
        ("sequence_length", sequence_length),
        ("minimum_characters", minimum_characters),
        ("maximum_examples", maximum_examples),
        ("lstm_units", lstm_units),
        ("lstm_layers", lstm_layers),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    hold_out.check_fraction("test_fraction", test_fraction)
    texts = {r: t for r, t in roles().items() if len(t) >= minimum_characters}
    if not texts:
        raise ValueError(
            f"no role has {minimum_characters} characters of text; lower "
            "minimum_characters"
        )

    def examples(ids: np.ndarray, maximum: int) -> dict[str, np.ndarray]:
        if model == "dense":
            return windows(ids, context, maximum)
        return sequences(ids, sequence_length, maximum)

    training, held_out = hold_out.clients(
        tuple(texts),
        count=hold_out.nearest_count(len(texts), held_out_fraction),
        seed=seed,
    )
    train, test = {}, {}
    maximum_test_examples = max(1, round(maximum_examples * test_fraction))
    for role in training:
        ids = encode(texts[role])
        cut = hold_out.latest(len(ids), test_fraction)
        train[role] = examples(ids[:cut], maximum_examples)
        test[role] = examples(ids[cut:], maximum_test_examples)

    def build_model() -> Any:
        # TensorFlow is imported here, not with the task: a mistyped flag or a
        # look at the task's facts should not cost seconds.
        from tfl_research.models.architectures import text_models

        if model == "dense":
            return text_models.dense(VOCABULARY_SIZE, context=context)
        return text_models.lstm(
            VOCABULARY_SIZE,
            length=sequence_length,
            units=lstm_units,
            layers=lstm_layers,
        )

    def build_objective() -> Objective:
        from tfl_research.tasks import objectives

        if model == "dense":
            return objectives.multiclass()
        return objectives.next_token(pad_id=PAD_ID)

    return Task(
        name="shakespeare",
        card=_CARD,
        train=ClientData.from_arrays(train, Batching(batch_size=50)),
        test=ClientData.from_arrays(test),
        held_out=ClientData.from_arrays(
            {r: examples(encode(texts[r]), maximum_examples) for r in held_out}
        )
        if held_out
        else None,
        build_model=build_model,
        build_objective=build_objective,
        pooled=(
            *held_out_share(len(held_out)),
            Pooled(
                "the cut of a role's text into training and test, and into examples",
                "the length of the role's text",
                RECORD,
            ),
        ),
    )


_CARD = Card(
    title="Shakespeare's plays: predict the next character of a role's lines",
    client_unit="speaking role",
    target=(
        "the next character, one of 78 ids: 76 fixed characters, padding and "
        "out-of-vocabulary; the usual language task of federated learning"
    ),
    source=(
        "37 plays as Project Gutenberg texts in the package shakespeare 0.6 "
        "(Open Knowledge Foundation), speeches parsed from the speaker cues"
    ),
    licence="code MIT, texts CC BY 2.5 as packaged (the package's COPYING.txt)",
    label_names=("padding", *CHARACTERS, "other"),
    public_data=True,
    public_knowledge=("the alphabet of 76 characters and the list of roles",),
)
