"""The matrix products of a recurrent model's local steps, alone.

They have other shapes than the square ones of "roofline", and many are computed one
after another. So no framework on the same library of products reaches the rate of
"roofline".

Each product has inputs of its own. That suits recurrent layers, which read the same
weights again and again. Other models have no such contender: a transformer's products
take longer alone than in the model, where their inputs are still in the caches.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from benchmark.large import Large, Weight
from benchmark.running import Running

if TYPE_CHECKING:
    from benchmark.workloads import Workload

# Executions of a product of which the fastest decides between TensorFlow and XLA.
_TRIES = 5


@dataclasses.dataclass(frozen=True)
class Product:
    """A product `[rows, inner] x [inner, columns]`.

    Attributes:
      in_a_row: how often it is computed, each time with the result of the time before.
    """

    rows: int
    inner: int
    columns: int
    in_a_row: int = 1

    @property
    def flops(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.in_a_row * self.rows * self.inner * self.columns


def of_step(spec: Large) -> list[Product]:
    """The products of a local step: predictions, and gradients of inputs and weights.

    Raises:
      ValueError: the model is not recurrent.
    """
    if spec.model != "lstm":
        raise ValueError(f"{spec.title} is not a recurrent model")
    rows = spec.batch_size * spec.length
    kernels = [w for w in spec.weights() if w.kind in ("kernel", "recurrent")]
    head = kernels.pop()
    found: list[Product] = []
    for kernel in kernels:
        in_a_row = spec.length if kernel.kind == "recurrent" else 1
        found += _with_gradients(kernel, rows, in_a_row)
    found += _with_gradients(head, rows if spec.every_step else spec.batch_size)
    return found


def _with_gradients(kernel: Weight, rows: int, in_a_row: int = 1) -> Iterator[Product]:
    """A kernel's products; the kernel's gradient is a product over all time steps."""
    inputs, outputs = kernel.shape
    yield Product(rows // in_a_row, inputs, outputs, in_a_row)
    yield Product(rows // in_a_row, outputs, inputs, in_a_row)
    yield Product(inputs, rows, outputs)


def products(workload: Workload) -> Running:
    """The products of a round's local steps, a step at a time on each core.

    Each product is computed by TensorFlow or XLA, whichever is faster.
    """
    from tfl_research import runtime
    from tfl_research.runtime import cores

    runtime.prepare("none", operation_threads=1)
    spec = workload.large
    if spec is None:
        raise ValueError(f"{workload.title} is not a larger model")
    steps = spec.num_clients * math.ceil(spec.examples / spec.batch_size)
    counts = collections.Counter(of_step(spec))
    by_xla = {product: _is_faster_by_xla(product) for product in counts}
    parts = []
    for compiled in (False, True):
        chosen = [p for p in counts.elements() if by_xla[p] == compiled]
        if chosen:
            parts.append((_computation(chosen, compiled=compiled), chosen))
    threads = min(cores.available(), steps)
    # Each core multiplies matrices of its own.
    sides = [[_sides(chosen) for _, chosen in parts] for _ in range(threads)]
    pool = concurrent.futures.ThreadPoolExecutor(threads)

    def some_steps(thread: int) -> None:
        for _ in range(thread, steps, threads):
            for (compute, _), given in zip(parts, sides[thread]):
                compute(given)

    def run(round_number: int) -> None:
        del round_number
        list(pool.map(some_steps, range(threads)))

    return Running(run)


def _sides(chosen: Sequence[Product]) -> list[tuple[Any, Any]]:
    """Left and right sides; products in a row neither grow nor shrink with them."""
    import tensorflow as tf

    found = []
    for index, product in enumerate(chosen):
        left, right = [product.rows, product.inner], [product.inner, product.columns]
        bound = math.sqrt(3.0 / product.inner)
        found.append(
            (
                tf.random.stateless_uniform(left, [index, 1], -1.0, 1.0),
                tf.random.stateless_uniform(right, [index, 2], -bound, bound),
            )
        )
    return found


def _computation(chosen: Sequence[Product], *, compiled: bool) -> Any:
    """A function that computes products from their sides."""
    import tensorflow as tf

    @tf.function(jit_compile=compiled, autograph=False)
    def compute(sides: Any) -> list[Any]:
        return [_computed(p, left, right) for p, (left, right) in zip(chosen, sides)]

    return compute


def _computed(product: Product, left: Any, right: Any) -> Any:
    """The product; of products in a row, what the next one would take."""
    import tensorflow as tf

    if product.in_a_row == 1:
        return tf.linalg.matmul(left, right)
    copies = math.ceil(product.inner / product.columns)

    def again(left: Any) -> Any:
        result = tf.linalg.matmul(left, right)
        if copies > 1:
            result = tf.tile(result, [1, copies])
        return result[:, : product.inner]

    [last] = tf.while_loop(
        lambda _: True,
        lambda left: [again(left)],
        [left],
        maximum_iterations=product.in_a_row,
    )
    return last


def _is_faster_by_xla(product: Product) -> bool:
    """Whether XLA computes it faster than TensorFlow's executor, measured here."""
    sides = _sides([product])
    seconds = {}
    for compiled in (False, True):
        compute = _computation([product], compiled=compiled)
        compute(sides)
        tried = []
        for _ in range(_TRIES):
            begin = time.perf_counter()
            compute(sides)
            tried.append(time.perf_counter() - begin)
        seconds[compiled] = min(tried)
    return seconds[True] < seconds[False]
