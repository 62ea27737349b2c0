"""Divides the machine's cores: threads of an operation, and jobs at the same time.

A round computes a chunk of clients on each core. By default, TensorFlow also divides
each operation over all cores. Then each operation of a chunk gives parts to threads
that other chunks keep busy, and waits for these threads. One thread for each operation
avoids this. TensorFlow has one number of threads for the whole process, which must be
set before the first operation is executed.

Threads that share a sum round it differently. So a run keeps its number of threads.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any, Optional, TypeVar

import tensorflow as tf

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

# TensorFlow reads the number here if no program sets it.
VARIABLE = "TF_NUM_INTRAOP_THREADS"


def available() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def operation_threads() -> int:
    """Number of threads that TensorFlow gives each operation on the CPU."""
    found = tf.config.threading.get_intra_op_parallelism_threads()
    return found or _of_environment() or available()


def _of_environment() -> Optional[int]:
    text = os.environ.get(VARIABLE, "")
    return int(text) if text.isdecimal() and int(text) > 0 else None


def set_operation_threads(threads: int) -> bool:
    """Makes TensorFlow give each operation so many threads, in the whole process.

    Args:
      threads: the number, at least 1.

    Returns:
      Whether TensorFlow now uses this number. If TensorFlow has executed an operation
      with another number, that number stays.

    Raises:
      ValueError: the number is below 1.
    """
    if threads < 1:
        raise ValueError(f"an operation needs at least one thread, got {threads}")
    if operation_threads() == threads:
        return True
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        # TensorFlow has started.
        return False
    return True


def threads_for_rounds(clients: float) -> Optional[int]:
    """The threads of an operation that make rounds fast; None for TensorFlow's number.

    Args:
      clients: the clients of a round; the expected number if it varies.
    """
    if _of_environment() is not None or clients < available():
        return None
    return 1


def jobs_at_once() -> int:
    """How many jobs keep all cores busy, if each executes one operation at a time.

    One if functions are executed eagerly, so that a user can debug them.
    """
    if tf.config.functions_run_eagerly():
        return 1
    return max(1, available() // operation_threads())


def in_order(
    compute: Callable[[_Job], _Result],
    jobs: Iterator[_Job],
    pool: concurrent.futures.Executor,
    at_once: int,
) -> Iterator[_Result]:
    """Yields the results of jobs in the jobs' order, while threads compute later ones.

    Args:
      compute: computes the result of a job; may run in several threads at a time.
      jobs: the jobs; this thread takes one whenever a result is taken.
      pool: the threads.
      at_once: largest number of jobs that are computed at a time.
    """
    pending: list[Any] = []
    for job in itertools.islice(jobs, at_once):
        pending.append(pool.submit(compute, job))
    while pending:
        done = pending.pop(0).result()
        for job in itertools.islice(jobs, 1):
            pending.append(pool.submit(compute, job))
        yield done


def on_all_cores(calls: Iterator[Callable[[], _Result]]) -> Iterator[_Result]:
    """Yields what functions without arguments return, in their order.

    If an operation takes one thread, the functions run in a thread for each core. If an
    operation takes all cores, the functions run one after another in this thread.

    Args:
      calls: the functions; this thread takes as many ahead as run at a time.
    """
    at_once = jobs_at_once()
    if at_once == 1:
        for call in calls:
            yield call()
        return
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        yield from in_order(lambda call: call(), calls, pool, at_once)
