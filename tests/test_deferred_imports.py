"""Packages that are seldom used are imported when they are, and whole then."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import copy, gc, inspect, pickle, sys, threading, weakref
    from unittest import mock
    from tfl_research import deferred_imports

    class Cycle:
        pass

    cycle = Cycle()
    cycle.itself = cycle
    gone = weakref.ref(cycle)
    deferred_imports.import_tff()
    # Objects of a notebook become garbage after the import.
    del cycle
    gc.collect()
    assert gone() is None

    def is_whole():
        return "pandas.core.frame" in sys.modules

    assert "tensorflow_federated" in sys.modules and not is_whole()
    import pandas as pd

    # As what looks at every module does.
    assert pd.__file__.endswith("__init__.py") and pd.__spec__.name == pd.__name__
    inspect.getmodule(is_whole)
    deferred_imports.import_tff()
    stored = pickle.dumps(pd)
    assert not is_whole()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(pd.DataFrame))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_whole() and len(found) == 4
    import pandas

    assert type(pandas).__name__ != "_Deferred"
    assert all(each is pandas.DataFrame for each in found)
    from tensorflow_privacy.privacy.dp_query import discrete_gaussian_utils
    import tensorflow as tf

    draw = discrete_gaussian_utils.sample_discrete_gaussian
    assert draw(2, [3], tf.int32).shape == (3,)
    assert not hasattr(pd, "of_nobody")

    # What is done with the stand-in is done with the module.
    assert type(pd).__name__ == "_Deferred"
    with mock.patch.object(pd, "read_csv", lambda: "patched"):
        assert pandas.read_csv() == pd.read_csv() == "patched"
    assert pandas.read_csv is pd.read_csv and "read_csv" in vars(pd)
    assert pd.__doc__ == pandas.__doc__ and copy.copy(pd) is pandas
    assert pickle.loads(stored) is pickle.loads(pickle.dumps(pd)) is pandas
    print("done")
"""

EVERY_PACKAGE = """
    import gc, sys, types
    from tfl_research import deferred_imports

    with deferred_imports.loading_libraries():
        pass
    assert "tensorflow" not in sys.modules
    deferred_imports.import_tff()
    assert gc.isenabled()
    heavy = "jax", "vizier", "sklearn", "scipy.signal", "tensorflow_estimator.python"
    assert not {*heavy, "tensorflow_probability.python"} & {*sys.modules}
    stand_ins = {
        name
        for name in deferred_imports.SELDOM_USED
        if type(sys.modules.get(name)).__name__ == "_Deferred"
    }
    assert {"pandas", "scipy.optimize", "dp_accounting.pld"} <= stand_ins

    # Modules that have no list of their names.
    names = {}
    exec("from dp_accounting.pld import *", names)
    assert "PLDAccountant" in names

    # As users call them.
    import dp_accounting, pandas as pd, tensorflow as tf, tensorflow_federated as tff
    import tensorflow_privacy as tfp
    import numpy as np
    from scipy.optimize import brentq

    assert brentq(lambda x: x - 0.5, 0, 1) == 0.5
    assert pd.DataFrame({"a": [1, 2]}).a.sum() == 3 and isinstance(pd, types.ModuleType)
    accountant = dp_accounting.pld.PLDAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(1.0))
    assert 4 < accountant.get_epsilon(1e-5) < 5
    added = tff.jax.computation(np.float32)(lambda x: x + 1)
    assert str(added.type_signature) == "(float32 -> float32)"
    assert tff.tensorflow.computation(lambda: 3)() == 3  # TFF starts a worker.

    # Not TFF's.
    class ServiceManager:
        __del__ = id

    of_another = ServiceManager()
    assert tff.learning.programs.train_model and tff.analytics.IbltFactory
    assert tff.simulation.baselines.ClientSpec(1, 2).batch_size == 2
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))])
    assert tf.lite.TFLiteConverter.from_keras_model(model).convert()
    assert tf.compat.v1.lite.TFLiteConverter
    # All names of a package of which single names were imported.
    source = open(tfp.__file__).read()
    assert "DPKerasAdamOptimizer" in source and "DPKerasAdamOptimizer" in dir(tfp)
    assert tfp.privacy.dp_query.tree_range_query.TreeRangeSumQuery
    dp_optimizer_keras = tfp.privacy.optimizers.dp_optimizer_keras
    assert tfp.DPKerasAdamOptimizer is dp_optimizer_keras.DPKerasAdamOptimizer
    assert tfp.v1.DNNClassifierV1 and tfp.restart_query.PeriodicRoundRestartIndicator
    exec("from tensorflow_privacy import *", names)
    assert names["DPKerasAdamOptimizer"] is tfp.DPKerasAdamOptimizer
    assert not hasattr(tfp.privacy, "of_nobody")
    assert not hasattr(tfp, "of_nobody") and not hasattr(tf.lite, "of_nobody")
    assert not hasattr(sys, "skip_tf_privacy_import")
    for name in deferred_imports.SELDOM_USED & set(sys.modules):
        assert dir(sys.modules[name]), name
    print("done")
"""


@pytest.mark.parametrize("program", [PROGRAM, EVERY_PACKAGE], ids=["one", "all"])
def test_packages_that_are_seldom_used(program):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
        check=False,
        # A worker of TFF's that survives the program holds its output open.
        timeout=900,
    )
    assert result.stdout == "done\n", result.stderr
    assert "Traceback" not in result.stderr
