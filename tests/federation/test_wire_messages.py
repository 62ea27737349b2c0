"""Messages read back as they were written, and whatever does not fit is refused."""

from __future__ import annotations

import json
import struct
import tracemalloc

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest

from tfl_research.federation.wire.messages import Message, MessageError, decode, encode

few = hypothesis.settings(max_examples=80, deadline=None, derandomize=True)

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3)
    ),
    max_leaves=8,
)
_arrays = st.sampled_from(
    [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    ]
).flatmap(
    lambda dtype: arrays.arrays(
        dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
    )
)
_messages = st.builds(
    Message,
    st.from_regex(r"\A[a-z][a-z_]{0,10}\Z"),
    st.dictionaries(_texts, _json, max_size=3),
    st.dictionaries(_texts.filter(bool), _arrays, max_size=3),
)
_SAMPLE = Message(
    "round",
    {"run": "r1", "round": 3, "clients": ["a", "b"], "of": {"x": 1}, "name": "ä"},
    {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "on": np.array([True])},
)


def _same(one: Message, other: Message) -> bool:
    return (
        one.kind == other.kind
        and json.dumps(one.header) == json.dumps(other.header)
        and list(one.tensors) == list(other.tensors)
        and all(
            a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
            for a, b in zip(one.tensors.values(), other.tensors.values())
        )
    )


class TestRoundTrip:
    @few
    @hypothesis.given(_messages)
    def test_reads_back(self, message):
        assert _same(decode(encode(message)), message)

    def test_the_bytes_are_those_of_the_documentation(self):
        text = (
            b'{"kind":"end","header":{"run":"r"},"tensors":'
            b'[["x","int16",[2],4],["y","bool",[],1]]}'
        )
        expected = b"tflfed\x00\x01" + struct.pack(">I", len(text)) + text
        expected += b"\x01\x00\xfe\xff" + b"\x01"
        made = encode(
            Message("end", {"run": "r"}, {"x": np.int16([1, -2]), "y": np.bool_(True)})
        )
        assert made == expected

    def test_order_in_memory_and_of_bytes_do_not_matter(self):
        array = np.arange(6, dtype=">i4").reshape(2, 3)
        for given in (array, np.asfortranarray(array), array[:, ::1]):
            read = decode(encode(Message("a", {}, {"x": given}))).tensors["x"]
            assert read.dtype == np.dtype("int32")
            assert read.tolist() == [[0, 1, 2], [3, 4, 5]]

    def test_tensors_can_be_written_to_and_are_aligned(self):
        array = decode(encode(_SAMPLE)).tensors["w"]
        array += 1
        assert array.flags.aligned

    def test_nan_travels_in_tensors(self):
        sent = Message("a", {}, {"x": np.float32([np.nan, np.inf])})
        assert np.isnan(decode(encode(sent)).tensors["x"][0])


class TestFuzzed:
    def _check(self, content: bytes) -> None:
        text = ""
        tracemalloc.start()
        try:
            decode(content)
        except MessageError as error:
            text = str(error)
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert "\n" not in text
        assert len(text) < 1000
        assert peak < 100_000 + 40 * len(content)

    def test_every_truncation_is_refused(self):
        content = encode(_SAMPLE)
        for length in range(len(content)):
            with pytest.raises(MessageError):
                decode(content[:length])

    def test_every_addition_is_refused(self):
        with pytest.raises(
            MessageError, match="claim 25 bytes, but the message has 26"
        ):
            decode(encode(_SAMPLE) + b"\0")

    def test_every_flipped_bit_is_a_message_or_a_message_error(self):
        content = encode(_SAMPLE)
        for position in range(len(content)):
            for bit in range(8):
                changed = bytearray(content)
                changed[position] ^= 1 << bit
                self._check(bytes(changed))

    @few
    @hypothesis.given(st.binary(max_size=200))
    def test_bytes_of_anyone(self, content):
        self._check(content)
        self._check(_framed(content))

    @few
    @hypothesis.given(_json, _json, _json, st.binary(max_size=20))
    def test_json_of_anyone(self, kind, header, table, data):
        described = {"kind": kind, "header": header, "tensors": table}
        self._check(_framed(json.dumps(described).encode(), data))

    @few
    @hypothesis.given(
        st.lists(st.integers(-3, 2**70), max_size=18),
        st.integers(-1, 2**70),
        st.sampled_from(["bool", "float32", "complex128", "object", "V8", "<f4", "O"]),
    )
    def test_claimed_shapes(self, shape, size, dtype):
        described = {
            "kind": "a",
            "header": {},
            "tensors": [["x", dtype, shape, size]],
        }
        self._check(_framed(json.dumps(described).encode(), b"1234"))


def _framed(text: bytes, data: bytes = b"") -> bytes:
    return b"tflfed\x00\x01" + struct.pack(">I", len(text)) + text + data


def _with_table(*rows: object, data: bytes = b"") -> bytes:
    described = {"kind": "a", "header": {}, "tensors": list(rows)}
    return _framed(json.dumps(described).encode(), data)


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "0 bytes are too few for a message"),
            (b"pickle" + bytes(20), "begin with b'pickle'"),
            (b"tflfed\x00\x02" + bytes(4), "has version 2 .* reads version 1"),
            (b"tflfed\x00\x01\xff\xff\xff\xff", "claims 4294967295 bytes of JSON"),
            (_framed(b"\xff{}"), "cannot be read"),
            (_framed(b"[" * 5000), "nested|cannot be read"),
            (_framed(b"[]"), "expected an object with kind, header"),
            (_framed(b'{"kind":1,"header":{},"tensors":[]}'), "kind of a message is"),
            (_framed(b'{"kind":"a","header":1,"tensors":[]}'), "header is '1'"),
            (_framed(b'{"kind":"a","header":{},"tensors":{}}'), "must be a list"),
            (
                _framed(b'{"kind":"a","header":{"x":NaN},"tensors":[]}'),
                "NaN is not a number",
            ),
            (
                _framed(b'{"kind":"a","header":{"x":1e999},"tensors":[]}'),
                "not finite",
            ),
            (
                _framed(b'{"kind":"a","header":{"x":1,"x":2},"tensors":[]}'),
                "key twice",
            ),
            (
                _framed(b'{"kind":"a","header":{"x":"\\ud800"},"tensors":[]}'),
                "is not text",
            ),
            (
                _framed(
                    b'{"kind":"a","header":{"x":' + b"9" * 5000 + b'},"tensors":[]}'
                ),
                "5000 digits",
            ),
            (_with_table(["x", "object", [1], 8], data=bytes(8)), "dtype 'object'"),
            (_with_table(["x", "int8", [2], 3], data=bytes(3)), "takes 2 bytes"),
            (_with_table(["x", "int8", [True], 1], data=bytes(1)), "not whole numbers"),
            (_with_table(["x", "int8", [-1], -1]), "not whole numbers"),
            (_with_table(["x", "int8", [0, 2**62], 0]), "too large"),
            (_with_table(["x", "int8", [1] * 17, 1], data=bytes(1)), "at most 16"),
            (_with_table(["", "int8", [0], 0]), "tensor's name"),
            (_with_table(["x", "int8", [0]]), "a row of the table"),
            (_with_table(["x", "int8", [0], 0], ["x", "int8", [0], 0]), "'x' twice"),
            (_with_table(["x", "bool", [1], 1], data=b"\x02"), "not booleans"),
        ],
    )
    def test_at_the_receiver(self, content, words):
        with pytest.raises(MessageError, match=words):
            decode(content)

    def test_above_the_limit(self):
        content = encode(_SAMPLE)
        assert _same(decode(content, len(content)), _SAMPLE)
        with pytest.raises(MessageError, match="above the limit"):
            decode(content, len(content) - 1)

    @pytest.mark.parametrize(
        ("message", "words"),
        [
            (Message("Round"), "kind of a message is 'Round'"),
            (Message("a", {"x": float("nan")}), "header.x is nan"),
            (Message("a", {"x": (1,)}), "header.x is a tuple"),
            (Message("a", {"x": [np.int64(1)]}), r"header.x\[0\] is a int64"),
            (Message("a", {"x": {1: 2}}), "key 1, which is not text"),
            (Message("a", {"x": 10**20}), "more than 20 digits"),
            (Message("a", {"x": "\ud800"}), "is not text"),
            (Message("a", {"x": "y" * 2**22}), "send large values as tensors"),
            (Message("a", {}, {"x": np.array(["s"])}), "dtype <U1"),
            (Message("a", {}, {"x": np.array([None])}), "dtype object"),
            (Message("a", {}, {"x": np.zeros((1,) * 17)}), "17 dimensions"),
            (Message("a", {}, {"": np.zeros(1)}), "tensor's name"),
        ],
    )
    def test_at_the_sender(self, message, words):
        with pytest.raises(MessageError, match=words):
            encode(message)


class TestFields:
    def test_what_they_give(self):
        assert _SAMPLE.integer("round") == 3
        assert _SAMPLE.text("run") == "r1"
        assert _SAMPLE.texts("clients") == ["a", "b"]
        assert _SAMPLE.mapping("of") == {"x": 1}
        assert _SAMPLE.tensor("w", dtype=np.float32, shape=[None, 3]).size == 6

    @pytest.mark.parametrize(
        ("read", "words"),
        [
            (lambda m: m.integer("run"), "'run' .* is 'r1', expected a whole number"),
            (lambda m: m.integer("none"), "has no field 'none'"),
            (lambda m: m.text("round"), "expected a text"),
            (lambda m: m.texts("run"), "expected a list of texts"),
            (lambda m: m.mapping("run"), "expected an object"),
            (lambda m: m.tensor("v"), "has no tensor 'v'"),
            (lambda m: m.tensor("w", dtype="float64"), "float32, expected float64"),
            (lambda m: m.tensor("w", shape=[2, 4]), r"\[2, 3\], expected \[2, 4\]"),
            (lambda m: m.tensor("w", shape=[2]), r"expected \[2\]"),
        ],
    )
    def test_what_they_refuse(self, read, words):
        with pytest.raises(MessageError, match=words):
            read(_SAMPLE)
