"""Labels and predictions on which metrics are compared with Keras."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_GENERATOR = np.random.default_rng(0)
NUMBERS = _GENERATOR.normal(size=(40, 2)).astype(np.float32)
GUESSES = (NUMBERS + 0.5 * _GENERATOR.normal(size=(40, 2))).astype(np.float32)
CLASSES = _GENERATOR.integers(0, 4, 40).astype(np.int32)
LOGITS = _GENERATOR.normal(size=(40, 4)).astype(np.float32)
SHARES = tf.nn.softmax(LOGITS).numpy()
ONE_HOT = np.eye(4, dtype=np.float32)[CLASSES]
YES = (CLASSES > 1).astype(np.float32)[:, None]
CHANCES = tf.sigmoid(LOGITS[:, :1]).numpy()
