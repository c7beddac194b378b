"""OTLP/JSON: export requests as the OTLP specification writes them in JSON ("JSON Protobuf Encoding").

In: bytes of an export request. Out: one line: 64-bit integers as strings, ids as lower-case hex, enums as numbers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ebpf.telemetry.batch import LOGS, METRICS, SPANS

_REQUESTS: Final[dict[str, Callable[[], Message]]] = {
    LOGS: ExportLogsServiceRequest,
    SPANS: ExportTraceServiceRequest,
    METRICS: ExportMetricsServiceRequest,
}

_AS_TEXT: Final = frozenset(
    (
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
        FieldDescriptor.TYPE_SINT64,
    )
)
_IDS: Final = frozenset(("trace_id", "span_id", "parent_span_id"))


def parse(signal: str, payload: bytes) -> Message:
    """Return an export request as the message it is.

    Raises:
        google.protobuf.message.DecodeError: The bytes are no such message.
    """
    request = _REQUESTS[signal]()
    request.ParseFromString(payload)
    return request


def line(signal: str, payload: bytes) -> bytes:
    """Return an export request as one line of JSON, with its newline.

    Raises:
        google.protobuf.message.DecodeError: The bytes are no such message.
    """
    document = message_dict(parse(signal, payload))
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def message_dict(message: Message) -> dict[str, Any]:
    """Return a message by the names of the JSON mapping; what is not set is left out."""
    if isinstance(message, KeyValue):
        return {"key": message.key, "value": _any_value(message.value)}
    return {field.json_name: _field(field, value) for field, value in message.ListFields()}


def _any_value(value: AnyValue) -> dict[str, Any]:
    """Take the short way for what attributes are made of: they are nine tenths of a record."""
    match value.WhichOneof("value"):
        case "string_value":
            return {"stringValue": value.string_value}
        case "int_value":
            return {"intValue": str(value.int_value)}
        case "double_value":
            return {"doubleValue": value.double_value}
    return {field.json_name: _field(field, item) for field, item in value.ListFields()}


def _field(field: FieldDescriptor, value: Any) -> Any:
    return [_value(field, item) for item in value] if field.is_repeated else _value(field, value)


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.type in _AS_TEXT:
        return str(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return value.hex() if field.name in _IDS else base64.b64encode(value).decode()
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return message_dict(value)
    return value
