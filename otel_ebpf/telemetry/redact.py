"""Secrets in URLs: the values of query parameters that are keys, tokens or signatures (``url.query`` convention).

In: a query as sent. Out: the same with REDACTED in the place of each secret.
"""

from __future__ import annotations

from typing import Final

REDACTED: Final = b"REDACTED"

CONVENTION: Final = frozenset(
    (
        b"AWSAccessKeyId",
        b"Signature",
        b"sig",
        b"X-Goog-Signature",
        b"X-Amz-Signature",
        b"X-Amz-Credential",
        b"X-Amz-Security-Token",
    )
)
"""The conventions' list, past and present; they ask for case-sensitive comparison."""

COMMON: Final = frozenset(
    (
        b"access_token", b"refresh_token", b"id_token", b"token", b"auth", b"authorization", b"auth_token", b"bearer",
        b"api_key", b"apikey", b"api-key", b"key", b"client_secret", b"secret", b"password", b"passwd", b"pwd", b"pass",
        b"session", b"sessionid", b"session_id", b"sid", b"code", b"credential", b"credentials", b"private_key",
        b"x-amz-signature", b"x-amz-credential", b"x-amz-security-token", b"x-goog-signature", b"x-goog-credential",
        b"x-api-key", b"jwt", b"signature", b"sig", b"awsaccesskeyid",
    )
)  # fmt: skip
"""What else is a secret in practice, compared without regard to case: a log is read by more people than a request."""


def redact_query(query: bytes) -> bytes:
    """Return *query* (without ``?``) with the values of sensitive parameters replaced; keys and order stay.

    A key that is percent-encoded is compared decoded, since a server decodes it as well.
    """
    if b"=" not in query:
        return query
    return b"&".join(_redact_pair(pair) for pair in query.split(b"&"))


def _redact_pair(pair: bytes) -> bytes:
    if b";" in pair:  # some servers take it for a separator (HTML 4.01, B.2.2)
        return b";".join(_redact_pair(part) for part in pair.split(b";"))
    key, equals, _ = pair.partition(b"=")
    return key + equals + REDACTED if equals and is_sensitive(key) else pair


def is_sensitive(key: bytes) -> bool:
    """Tell whether a query parameter's value is a secret, by its key."""
    if b"%" in key:
        key = _decoded(key)
    return key in CONVENTION or key.lower() in COMMON


def _decoded(key: bytes) -> bytes:
    """Percent-decode (RFC 3986, 2.1); what is not valid stays."""
    head, *rest = key.split(b"%")
    return head + b"".join(_octet(part) for part in rest)


def _octet(part: bytes) -> bytes:
    try:
        return bytes((int(part[:2].decode("ascii"), 16),)) + part[2:] if len(part) > 1 else b"%" + part
    except ValueError:
        return b"%" + part
