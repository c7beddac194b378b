"""The wire format: what we assemble, the official library reads back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_ebpf.telemetry import wire
from tests.pure.telemetry.making import attributes, value_of

VALUES = st.one_of(
    st.text(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(st.text(), max_size=5).map(tuple),
)


@given(VALUES)
def test_values_read_back(value: wire.Value) -> None:
    """Every kind of attribute value is read back as it was."""
    read = value_of(AnyValue.FromString(wire.any_value(value)))
    assert read == (list(value) if isinstance(value, tuple) else value)
    assert type(read) is (list if isinstance(value, tuple) else type(value))


@given(st.lists(st.tuples(st.text(max_size=40), VALUES), unique_by=lambda pair: pair[0], max_size=8))
def test_attributes_read_back(given_attributes: list[tuple[str, wire.Value]]) -> None:
    """Attributes of any keys and values are read back in their order."""
    record = LogRecord.FromString(wire.key_values(6, given_attributes))
    assert attributes(record.attributes) == {
        key: list(value) if isinstance(value, tuple) else value for key, value in given_attributes
    }
    assert [field.key for field in record.attributes] == [key for key, _ in given_attributes]


@given(st.integers(0, 2**63 - 1))
def test_cached_integers_are_the_plain_ones(number: int) -> None:
    """The short ways for small integers give the same bytes as the long one."""
    assert wire.cached_attribute(6, "a.b")[number] == wire.key_value(6, "a.b", number)


def test_integers_at_the_edges_of_their_lengths() -> None:
    """Where an encoded number gets longer by a byte, the length before it says so."""
    cached = wire.cached_attribute(9, "size")
    for number in (0, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**35):
        field = KeyValue.FromString(cached[number][2:])
        assert field.value.int_value == number


def test_cache_is_bounded() -> None:
    """A cache of bytes stops growing at its limit and still answers."""
    cached = wire.cached_attribute(6, "size", limit=10)
    assert [cached[n] for n in range(100)] == [wire.key_value(6, "size", n) for n in range(100)]
    assert len(cached) == 10


def test_lone_surrogates_do_not_break_a_record() -> None:
    """Text that is no valid Unicode is told with question marks rather than not at all."""
    assert value_of(AnyValue.FromString(wire.any_value("a\udc80b"))) == "a?b"


@given(st.integers(0, 2**64 - 1))
def test_varints_are_minimal(number: int) -> None:
    """A number takes one byte for each seven bits."""
    assert len(wire.varint(number)) == max(1, -(-number.bit_length() // 7))
