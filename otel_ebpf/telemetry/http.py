"""HTTP as attributes: request lines, methods, statuses and errors by the HTTP semantic conventions.

In: bytes of an exchange. Out: attributes, names and verdicts.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from otel_ebpf.telemetry import names, wire

MOST_TEXT_BYTES: Final = 8192
"""Longest path, query or user agent told: what common servers take as a header line. What is longer is cut, and said so
in ``ebpf.exchange.missing``."""


Target = tuple[bytes | None, bytes | None]
"""Path and query of a request target, None where it has none."""


def split_line(line: bytes) -> tuple[bytes, bytes, str]:
    """Return method, target and version of a request line; what is not there is empty (RFC 9112, 3)."""
    method, _, rest = line.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    if not version.startswith(b"HTTP/"):
        return method, rest, ""
    return method, target, text(version[5:])


def split_target(method: bytes, target: bytes) -> Target:
    """Take a request target apart (RFC 9112, 3.2): origin-form, absolute-form, ``*``; CONNECT's has no path."""
    if method == b"CONNECT" or not target:
        return None, None
    if not target.startswith(b"/"):
        scheme, separator, rest = target.partition(b"://")
        if separator and scheme.isalnum():
            target = rest[_path_start(rest) :] or b"/"
    path, question, query = target.partition(b"?")
    return path or b"/", query if question else None


def _path_start(rest: bytes) -> int:
    """Return where the authority ends in what follows ``://``."""
    ends = [at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0]
    return min(ends, default=len(rest))


def text(raw: bytes) -> str:
    """Return bytes of the wire as text; what is not UTF-8 becomes U+FFFD."""
    return raw.decode("utf-8", "replace")


def method_name(method: bytes) -> str:
    """Return ``http.request.method``: a known one, or ``_OTHER``."""
    return method.decode() if method in names.METHODS else names.OTHER_METHOD


def error_type(status: int | None, broken: str | None, *, client: bool) -> str | None:
    """Return ``error.type``: why it broke off, else the status where the conventions count it as an error."""
    if broken is not None:
        return broken
    if status is not None and status >= (400 if client else 500):
        return str(status)
    return None


class Facts(NamedTuple):
    """What tells one HTTP series of an edge from another; None and empty: not known."""

    method: bytes
    status: int | None
    version: str
    route: str | None
    error: str | None
    tls: bool


def series_attributes(peer: wire.Attributes, facts: Facts, *, client: bool) -> wire.Attributes:
    """Return the attributes of an HTTP series; what is not known is left out."""
    method, status, version, route, error, tls = facts
    found: list[tuple[str, wire.Value | None]] = [
        (names.HTTP_REQUEST_METHOD, method_name(method) if method else None),
        (names.HTTP_RESPONSE_STATUS_CODE, status),
        (names.URL_TEMPLATE if client else names.HTTP_ROUTE, route),
        (names.ERROR_TYPE, error),
        (names.NETWORK_PROTOCOL_VERSION, version or None),
        (names.URL_SCHEME, "https" if tls else "http"),
        (names.TLS_ESTABLISHED, True if tls else None),
    ]
    return known(found) + peer


def known(attributes: list[tuple[str, wire.Value | None]]) -> wire.Attributes:
    """Leave out what is None."""
    return tuple((key, value) for key, value in attributes if value is not None)


def host_and_port(host: bytes) -> tuple[str, int | None]:
    """Take a Host field apart (RFC 9110, 7.2); an IPv6 address loses its brackets."""
    name, colon, port = host.rpartition(b":")
    if not colon or not port.isdigit() or len(port) > 5 or (b":" in name and not name.endswith(b"]")):
        name, port = host, b""
    if name.startswith(b"[") and name.endswith(b"]"):
        name = name[1:-1]
    return text(name), int(port) if port else None
