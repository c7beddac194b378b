"""Attribute keys and closed value sets: the conventions' own constants where they exist, ours elsewhere.

In: nothing. Out: strings.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv._incubating.attributes import (
    cpu_attributes as cpu,
)
from opentelemetry.semconv._incubating.attributes import (
    http_attributes as http_incubating,
)
from opentelemetry.semconv._incubating.attributes import (
    network_attributes as network_incubating,
)
from opentelemetry.semconv._incubating.attributes import (
    service_attributes as service_incubating,
)
from opentelemetry.semconv._incubating.attributes import (
    tls_attributes as tls,
)
from opentelemetry.semconv._incubating.attributes import (
    url_attributes as url_incubating,
)
from opentelemetry.semconv.attributes import (
    error_attributes as error,
)
from opentelemetry.semconv.attributes import (
    http_attributes as http,
)
from opentelemetry.semconv.attributes import (
    network_attributes as network,
)
from opentelemetry.semconv.attributes import (
    server_attributes as server,
)
from opentelemetry.semconv.attributes import (
    service_attributes as service,
)
from opentelemetry.semconv.attributes import (
    url_attributes as url,
)
from opentelemetry.semconv.attributes import (
    user_agent_attributes as user_agent,
)
from opentelemetry.semconv.schemas import Schemas

CPU_MODE: Final = cpu.CPU_MODE
HTTP_REQUEST_BODY_SIZE: Final = http_incubating.HTTP_REQUEST_BODY_SIZE
HTTP_RESPONSE_BODY_SIZE: Final = http_incubating.HTTP_RESPONSE_BODY_SIZE
NETWORK_IO_DIRECTION: Final = network_incubating.NETWORK_IO_DIRECTION
SERVICE_PEER_NAME: Final = service_incubating.SERVICE_PEER_NAME
SERVICE_PEER_NAMESPACE: Final = service_incubating.SERVICE_PEER_NAMESPACE
TLS_ESTABLISHED: Final = tls.TLS_ESTABLISHED
URL_TEMPLATE: Final = url_incubating.URL_TEMPLATE
ERROR_TYPE: Final = error.ERROR_TYPE
HTTP_REQUEST_METHOD: Final = http.HTTP_REQUEST_METHOD
HTTP_REQUEST_METHOD_ORIGINAL: Final = http.HTTP_REQUEST_METHOD_ORIGINAL
HTTP_RESPONSE_STATUS_CODE: Final = http.HTTP_RESPONSE_STATUS_CODE
HTTP_ROUTE: Final = http.HTTP_ROUTE
NETWORK_PEER_ADDRESS: Final = network.NETWORK_PEER_ADDRESS
NETWORK_PEER_PORT: Final = network.NETWORK_PEER_PORT
NETWORK_PROTOCOL_NAME: Final = network.NETWORK_PROTOCOL_NAME
NETWORK_PROTOCOL_VERSION: Final = network.NETWORK_PROTOCOL_VERSION
NETWORK_TRANSPORT: Final = network.NETWORK_TRANSPORT
NETWORK_TYPE: Final = network.NETWORK_TYPE
SERVER_ADDRESS: Final = server.SERVER_ADDRESS
SERVER_PORT: Final = server.SERVER_PORT
SERVICE_INSTANCE_ID: Final = service.SERVICE_INSTANCE_ID
SERVICE_NAME: Final = service.SERVICE_NAME
SERVICE_VERSION: Final = service.SERVICE_VERSION
URL_PATH: Final = url.URL_PATH
URL_QUERY: Final = url.URL_QUERY
URL_SCHEME: Final = url.URL_SCHEME
USER_AGENT_ORIGINAL: Final = user_agent.USER_AGENT_ORIGINAL

SCHEMA_URL: Final = Schemas.V1_44_0.value
SCOPE: Final = "otel_ebpf"

ROLE: Final = "ebpf.role"
PEER_TYPE: Final = "ebpf.peer.type"
RETRANSMIT_TYPE: Final = "ebpf.tcp.retransmit.type"
SOCKET_OPERATION: Final = "ebpf.socket.operation"
OVERFLOW: Final = "otel.metric.overflow"

EVENT_NAME: Final = "ebpf.http.exchange"
REQUEST_HEADER_SIZE: Final = "ebpf.http.request.header.size"
RESPONSE_HEADER_SIZE: Final = "ebpf.http.response.header.size"
PHASE_CONNECT: Final = "ebpf.phase.connect.duration"
PHASE_REQUEST: Final = "ebpf.phase.request.duration"
PHASE_WAIT: Final = "ebpf.phase.wait.duration"
PHASE_RESPONSE: Final = "ebpf.phase.response.duration"
TCP_RTT: Final = "ebpf.tcp.rtt"
TCP_RETRANSMITS: Final = "ebpf.tcp.retransmits"
SHARED: Final = "ebpf.exchange.shared"
COMPLETE: Final = "ebpf.exchange.complete"
MISSING: Final = "ebpf.exchange.missing"

STAGE: Final = "stage"
OUTCOME: Final = "outcome"
REASON: Final = "reason"
HOOK: Final = "hook"
KIND: Final = "kind"
STATE: Final = "state"
MAP: Final = "map"
PROGRAM: Final = "program"
PROFILE: Final = "profile"
SIGNAL: Final = "signal"

RETRANSMIT_TYPES: Final = ("fast", "timeout", "tail_loss_probe", "syn", "syn_ack", "unknown")
"""In the order of ``flow.retransmits`` (``bpf/include/records.h``)."""

OTHER_METHOD: Final = "_OTHER"
METHODS: Final = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"QUERY")
)
"""What ``http.request.method`` may be: RFC 9110, 9.3; RFC 5789; and QUERY, as the HTTP conventions name them."""
