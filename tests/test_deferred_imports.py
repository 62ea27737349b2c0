"""TensorFlow Probability is imported when it is first used, and whole then."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

PROGRAM = """
    import inspect, sys, threading
    from tfl_research import deferred_imports

    deferred_imports.import_tff()

    def is_whole():
        return "tensorflow_probability.python.distributions" in sys.modules

    assert "tensorflow_federated" in sys.modules and not is_whole()
    import tensorflow_probability as tfp

    # As what looks at every module does.
    assert tfp.__file__.endswith("__init__.py") and tfp.__spec__.name == tfp.__name__
    inspect.getmodule(is_whole)
    deferred_imports.import_tff()
    assert not is_whole()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(tfp.distributions))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_whole() and len(found) == 4
    import tensorflow_probability

    assert type(tensorflow_probability).__name__ != "_Deferred"
    assert all(each is tensorflow_probability.distributions for each in found)
    from tensorflow_privacy.privacy.dp_query import discrete_gaussian_utils
    import tensorflow as tf

    draw = discrete_gaussian_utils.sample_discrete_gaussian
    assert draw(2, [3], tf.int32).shape == (3,)
    assert not hasattr(tfp, "of_nobody")
    print("done")
"""


def test_a_package_that_is_seldom_used():
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "done\n", result.stderr
