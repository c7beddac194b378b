"""Routes: which endpoint a path stands for, with few distinct answers whatever is asked.

In: paths as sent. Out: templates such as ``/users/{id}/orders``. Patterns of ``OTEL_EBPF_ROUTES`` come first, then ids
are recognised by their looks, then a limit per service holds: a new route beyond it is told under its first segment and
``*``.
"""

from __future__ import annotations

import re
from typing import Final

DATE: Final = "{date}"
EMAIL: Final = "{email}"
ID: Final = "{id}"
OVERFLOW: Final = "/*"

MAX_PATHS: Final = 4_096  # paths remembered per service, about 200 bytes each; cleared when full: a miss is cheap
MAX_PATH: Final = 512  # of a longer path the rest is `*`: endpoints are told apart long before
MAX_SERVICES: Final = 1_024  # services with a book of routes of their own; the later ones share one

# A path of these characters alone, none of its segments long, holds no id: the ordinary miss costs one match.
_PLAIN: Final = re.compile(rb"(?:/[A-Za-z._~!$&'()*+,;:-]{0,15})*+")

# The three that nearly every id is, without the search that the rest takes: number, hash, UUID (RFC 9562, 4).
_HASH: Final = r"(?=[A-Fa-f]*\d)[0-9A-Fa-f]{8,}"
_UUID: Final = r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"
_COMMON_ID: Final = re.compile(rf"\d+|{_HASH}|{_UUID}", re.ASCII)

# An id is one whole segment, or stands behind a word or two (order-1234), or before a file's ending (1234.json).
_SEGMENT: Final = re.compile(
    r"""
    (?P<date>(?:19|20)\d\d-[01]\d-[0-3]\d(?:[T_ ][\d:.,+Z-]*)?)
  | (?P<email>[^/@\s]+(?:@|%40)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)
  | (?P<word>(?:[A-Za-z]+[-_:.]){1,2})??
    (?P<id>
        (?(word)\d{2,}|\d+)                                                    # number; utf-8 is a word
      | \{?UUID\}?
      | (?:0x)?HASH                                                            # a word of a to f is none
      | \d{1,3}(?:\.\d{1,3}){3}                                                # IPv4 address
      | eyJ[\w-]+\.[\w-]+\.[\w-]*                                              # JWT (RFC 7519): begins with {"
      | (?=[^\d]*\d)(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])[\w-]{16,}={0,2}           # base64, nanoid
      | (?=(?:[^\d]*\d){3})[0-9A-Za-z]{16,}                                    # ULID, cuid, ksuid
    )
    (?P<ending>\.[A-Za-z][A-Za-z0-9]{0,4}(?:\.gz)?)?
    """.replace("UUID", _UUID).replace("HASH", _HASH),
    re.VERBOSE | re.ASCII,
)
_MIN_ID: Final = 4  # what is shorter, like v1 or h2, is an id only when it is a number
_MIN_TOKEN: Final = 16  # what is shorter and of letters alone is a word
_MAX_SEGMENT: Final = 64  # a longer one is nobody's word


def clean_path(path: bytes) -> str:
    """Return the path of a request target (RFC 9112, 3.2): without scheme and authority, query, or what is too long."""
    if not path.startswith(b"/"):
        scheme, found, rest = path.partition(b"://")
        if not found or b"/" in scheme:
            return "*"  # OPTIONS *, CONNECT host:port, or no target at all: not about a resource of this server
        path = b"/" + rest.partition(b"/")[2]
    path = path.partition(b"?")[0]
    if len(path) > MAX_PATH:
        path = path[:MAX_PATH].rpartition(b"/")[0] + b"/*"
    return path.decode("utf-8", "replace")


def template(path: str) -> str:
    """Return *path* with what looks like an id, a date or an address of a person replaced."""
    return "/".join([_segment(segment) for segment in path.split("/")])


def _segment(segment: str) -> str:
    if len(segment) < _MIN_TOKEN and segment.isascii() and segment.isalpha():
        return segment
    if segment.isascii() and (len(segment) < _MIN_ID or _COMMON_ID.fullmatch(segment)):
        return ID if segment.isdecimal() or len(segment) >= _MIN_ID else segment
    if len(segment) > _MAX_SEGMENT or not segment.isascii() or not segment.isprintable():
        return ID
    found = _SEGMENT.fullmatch(segment)
    if found is None:
        return segment
    if found["id"] is None:
        return DATE if found["date"] else EMAIL
    return f"{found['word'] or ''}{ID}{found['ending'] or ''}"


class Patterns:
    """The patterns of ``OTEL_EBPF_ROUTES``, tried in order; the answer is the pattern as it was written."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = patterns
        self._matcher = re.compile("|".join(f"({_pattern(pattern)})" for pattern in patterns))

    def match(self, path: str) -> str | None:
        """Return the first pattern that *path* fits, None when it fits none."""
        if not self._patterns:
            return None
        found = self._matcher.fullmatch(path)
        return self._patterns[(found.lastindex or 1) - 1] if found else None


def _pattern(pattern: str) -> str:
    """Return the expression of one pattern, without groups of its own: the group's number tells the pattern."""
    parts = re.split(r"(\{\w+\}|(?<=/):\w+|\*+$)", pattern)
    return "".join(_pattern_part(part) for part in parts)


def _pattern_part(part: str) -> str:
    if part.startswith("*"):
        return ".*"
    return "[^/]+" if part.startswith(("{", ":")) else re.escape(part)


class RouteBook:
    """The routes of one service.

    Attributes:
        overflows: Paths that were told under an overflow route because the limit was reached; a path counts once while
            it is remembered.
    """

    def __init__(self, patterns: Patterns, limit: int) -> None:
        self._patterns = patterns
        self._limit = limit
        self._paths: dict[bytes, str] = {}
        self._routes: set[str] = set()
        self._older: set[str] = set()
        self._count = 0  # of both sets together
        self._firsts: set[str] = set()  # first segments under which there are routes
        self.overflows = 0

    def route(self, path: bytes) -> str:
        """Return the route of *path* (an absolute path, RFC 9110 4.1); a query is cut off, ``*`` stays ``*``."""
        known = self._paths.get(path)
        if known is not None:
            return known
        if len(self._paths) >= MAX_PATHS:
            self._paths.clear()
        found = self._paths[path] = self._admit(self._route(path))
        return found

    def _route(self, path: bytes) -> str:
        if _PLAIN.fullmatch(path):
            text = path.decode()
            return self._patterns.match(text) or text
        text = clean_path(path)
        return self._patterns.match(text) or template(text)

    def _admit(self, route: str) -> str:
        if route in self._routes:
            return route
        known = route in self._older
        if known or self._count < self._limit:
            self._routes.add(route)
            self._firsts.add(_first(route))
            self._count += not known
            return route
        self.overflows += 1
        return self._overflow(route)

    def _overflow(self, route: str) -> str:
        """Return ``/first/*`` when the service has routes under that first segment, else ``/*``."""
        first = _first(route) or route + "/"
        return f"{first}*" if first in self._firsts and first.count("/") == 2 else OVERFLOW

    def age(self) -> None:
        """Forget the routes not asked for since the last call but one: a scan does not fill the book forever."""
        self._older, self._routes = self._routes, set()
        self._count = len(self._older)
        self._firsts = {_first(route) for route in self._older}
        self._paths.clear()


def _first(route: str) -> str:
    """Return the first segment of a route that has more than one, with its slashes; else nothing."""
    return route[: route.find("/", 1) + 1]
