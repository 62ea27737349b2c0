"""Einstein sums as matrix products, against NumPy's `einsum`."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.runtime.tracing import contractions
from tfl_research.runtime.tracing.graph import Graph
from tfl_research.runtime.tracing.imports import Use

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 6}
# Those of Keras' attention and dense layers, with their gradients; and other orders.
PRODUCTS = [
    "abc,cde->abde",
    "aecd,abcd->acbe",
    "acbe,aecd->abcd",
    "abcd,cde->abe",
    "abde,cde->abc",
    "abde,abc->cde",
    "acbe,abcd->aecd",
    "abcd,aecd->acbe",
    "abcd,acbe->aecd",
    "abe,cde->abcd",
    "abe,abcd->cde",
    "ab,bc->ac",
    "ab,bc->ca",
    "ba,cb->ac",
    "ab,b->a",
    "b,ab->a",
    "a,a->",
    "abc,abc->a",
    "abce,bade->dcab",
    "abc,dcb->da",
    " abc , cd -> abd ",
]


def arguments(equation):
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    generator = np.random.default_rng(0)
    return [generator.normal(size=[SIZES[c] for c in term]) for term in terms]


def unknown_letters(equation, shapes):
    """Shared letters of a size that is not known, and those that the result has."""
    terms, _, result = equation.replace(" ", "").partition("->")
    terms = terms.split(",")
    shared = set(terms[0]) & set(terms[1])
    lacking = {
        letter
        for term, shape in zip(terms, shapes)
        for letter, size in zip(term, shape)
        if size is None
    }
    return shared & lacking, shared & set(result)


def traced_product(equation, shapes):
    """A function of arguments of these shapes, of which None is no product."""
    function = tf.function(
        lambda *values: contractions.as_product(equation, *values),
        input_signature=[tf.TensorSpec(shape, tf.float64) for shape in shapes],
    )
    made = function.get_concrete_function().structured_outputs is not None
    return function if made else None


@pytest.mark.parametrize("sizes", ["known", "unknown", "first"])
@pytest.mark.parametrize("equation", PRODUCTS)
def test_products_are_numpys(equation, sizes):
    given = arguments(equation)
    shapes = [list(value.shape) for value in given]
    if sizes == "unknown":
        shapes = [[None] * len(shape) for shape in shapes]
    elif sizes == "first":
        shapes = [[None, *shape[1:]] for shape in shapes]
    unknown, batch = unknown_letters(equation, shapes)
    if len(unknown) > 1 or unknown & batch:
        # A product would take arguments that `Einsum` refuses.
        assert traced_product(equation, shapes) is None
        return
    found = traced_product(equation, shapes)(*given)
    np.testing.assert_allclose(
        found, np.einsum(equation.replace(" ", ""), *given), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ab,cd->abcd", [(2, 3), (4, 5)]),  # Nothing is summed.
        ("ab,ab->ab", [(2, 3), (2, 3)]),
        ("ab,bc->c", [(2, 3), (3, 4)]),  # One argument alone is summed over a.
        ("aab,bc->ac", [(2, 2, 3), (3, 4)]),
        ("...b,bc->...c", [(2, 3), (3, 4)]),
        ("ab,bc", [(2, 3), (3, 4)]),
        ("ab->a", [(2, 3), (2, 3)]),
        ("abc,bc->a", [(2, 3), (2, 3)]),  # Another rank.
    ],
)
def test_other_sums_are_no_products(equation, shapes):
    given = [tf.zeros(shape) for shape in shapes]
    assert contractions.as_product(equation, *given) is None


@pytest.mark.parametrize(
    ("shapes", "given"),
    [
        # Of two letters, nobody knows whether their sizes are equal.
        ([[None, 5, None], [None, None, 7]], [(2, 5, 6), (4, 3, 7)]),
        ([[None, 5, 6], [None, 3, 7]], [(2, 5, 6), (4, 3, 7)]),  # One has two sizes.
        ([[None, 5, 6], [None, 6, 7]], [(2, 5, 6), (4, 6, 7)]),
        ([[None, 5, 6], [1, 6, 7]], [(2, 5, 6), (1, 6, 7)]),  # One for many.
        ([[None, 5, 6], [None, 6, 7]], [(1, 5, 6), (4, 6, 7)]),
        ([[4, 5, None], [4, 6, 7]], [(4, 5, 3), (4, 6, 7)]),
        ([[4, 5, None], [4, 6, 7]], [(4, 5, 1), (4, 6, 7)]),
    ],
)
def test_arguments_of_other_sizes_are_never_a_product(shapes, given):
    made = traced_product("abc,acd->abd", shapes)
    if made is not None:
        with pytest.raises(tf.errors.InvalidArgumentError):
            made(*(np.ones(shape) for shape in given))


def test_empty_arguments():
    found = contractions.as_product("ab,cb->ac", tf.zeros([2, 0]), tf.zeros([3, 0]))
    np.testing.assert_array_equal(found, np.zeros([2, 3]))
    found = contractions.as_product("ab,cb->ac", tf.zeros([0, 2]), tf.zeros([3, 2]))
    assert found.shape == [0, 3]


def test_attention_transposes_each_tensor_in_one_way():
    """In the products of predictions and of gradients, so that one copy serves all."""
    tensor = tf.TensorSpec([4, 5, 2, 3])
    products = [
        ("aecd,abcd->acbe", "key", "query"),
        ("acbe,aecd->abcd", "weights", "value"),
        ("abcd,aecd->acbe", "gradient", "value"),
        ("acbe,abcd->aecd", "weights", "gradient"),
        ("acbe,abcd->aecd", "weights", "query"),
        ("acbe,aecd->abcd", "weights", "key"),
    ]

    @tf.function(input_signature=[tensor] * 4 + [tf.TensorSpec([4, 2, 5, 5])])
    def traced(query, key, value, gradient, weights):
        given = locals()
        return [
            contractions.as_product(equation, given[left], given[right])
            for equation, left, right in products
        ]

    graph = traced.get_concrete_function().graph
    transposed: dict[str, set[tuple[int, ...]]] = {}
    for operation in graph.get_operations():
        if operation.type == "Transpose":
            order = tuple(tf.get_static_value(operation.inputs[1]))
            transposed.setdefault(operation.inputs[0].name, set()).add(order)
    arguments_alone = [transposed[argument.name] for argument in graph.inputs[:4]]
    assert arguments_alone == [{(0, 2, 1, 3)}] * 4
    assert graph.inputs[4].name not in transposed


@pytest.mark.parametrize("guarded", [False, True])
def test_graphs_take_products_in_calls_and_loops(guarded):
    """And leave the sums that are no products."""

    @tf.function
    def inner(x):
        return tf.einsum("abc,cde->abde", x, tf.ones([4, 5, 6]))

    @tff.tensorflow.computation(tff.TensorType(np.float32, [2, 3, 4]))
    def computation(x):
        _, total = tf.while_loop(
            lambda i, _: i < 2,
            lambda i, total: (i + 1, total + tf.einsum("abde->abd", inner(x))),
            (0, tf.zeros([2, 3, 5])),
        )
        return total

    x = np.random.default_rng(0).normal(size=[2, 3, 4]).astype(np.float32)
    traced = tf.function(
        lambda value: Graph(computation).trace(value, use=Use(guarded=guarded))
    ).get_concrete_function(tf.TensorSpec([2, 3, 4]))
    expected = 2 * 6 * np.repeat(x.sum(axis=2)[:, :, np.newaxis], 5, axis=2)
    np.testing.assert_allclose(traced(tf.constant(x))[0], expected, rtol=1e-5)
    graph_def = traced.graph.as_graph_def()
    nodes = [n for f in graph_def.library.function for n in f.node_def]
    assert "another form" in Graph(computation).how
    sums = [n.attr["equation"].s for n in (*nodes, *graph_def.node) if n.op == "Einsum"]
    assert sums == [b"abde->abd"]


def test_arguments_that_are_results_are_found_beside_products():
    @tff.tensorflow.computation(tff.TensorType(np.float32, [2, 3]), np.int32)
    def computation(x, index):
        return tf.einsum("ab,cb->ac", x, x), tf.identity(index), x

    graph = Graph(computation)
    assert graph.forwarded == [None, 1, 0]
    assert graph.aliases is None
