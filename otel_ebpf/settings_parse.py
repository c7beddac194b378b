"""What a setting may be: one small parser per kind of value, with the words that say what is allowed.

In: the text of an environment variable. Out: a typed value, or ``ValueError``.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

N = TypeVar("N", int, float)

MAX_TEXT: Final = 4096  # a longer value is a mistake: a file pasted into a variable
MAX_ITEMS: Final = 256  # entries of one list: each is tried for every new process, route or hook

_DURATION_UNITS_NS: Final = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION_PART: Final = r"[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h)"
_SIZE_UNITS: Final = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_HOOK: Final = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)?")
_ROUTE: Final = re.compile(r"(?:/(?:\{\w+\}|:\w+|[^/{}:*?#\s]+))*(?:/|/\*{1,2})?")
_KEY: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2: token


@dataclass(frozen=True, slots=True)
class Check:
    """One kind of value.

    Attributes:
        parse: Text to value; raises ValueError when it is not allowed.
        allowed: The end of the sentence "allowed is …".
        choices: Every value there is, when they can be listed.
        many: Whether it is a list; unset is then the empty tuple instead of None.
    """

    parse: Callable[[str], Any]
    allowed: str
    choices: tuple[str, ...] = ()
    many: bool = False


def choice(*choices: str) -> Check:
    """One of *choices*, in any case of letters."""

    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError
        return text.lower()

    return Check(parse, " | ".join(choices), choices)


def switch() -> Check:
    """``true`` or ``false``."""
    check = choice("true", "false")
    return Check(lambda text: check.parse(text) == "true", check.allowed, check.choices)


def whole(low: int, high: int) -> Check:
    """A whole number within bounds, in decimal digits."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise ValueError
        return within(int(text), low, high)

    return Check(parse, f"a whole number from {low} to {high}")


def ratio() -> Check:
    """A number from 0 to 1."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"[0-9]{0,4}(?:\.[0-9]{1,18})?", text):
            raise ValueError
        return within(float(text), 0.0, 1.0)

    return Check(parse, "a number from 0 to 1")


def duration(low_s: float, high_s: float, bounds: str) -> Check:
    """A duration in Go's notation (``500ms``, ``1h30m``), as OpenTelemetry's eBPF agents take it; in seconds."""

    def parse(text: str) -> float:
        if not re.fullmatch(f"(?:{_DURATION_PART}){{1,8}}", text):
            raise ValueError
        parts = re.findall(r"([\d.]+)([a-z]+)", text)
        return within(sum(float(number) * _DURATION_UNITS_NS[unit] for number, unit in parts) / 1e9, low_s, high_s)

    return Check(parse, f"a duration with its unit, such as 500ms, 1s or 1h30m, {bounds}")


def milliseconds(low: int, high: int) -> Check:
    """Milliseconds as the OpenTelemetry specification gives them, without a unit; in seconds."""
    check = whole(low, high)
    return Check(lambda text: check.parse(text) / 1000, f"milliseconds, {check.allowed}")


def power_of_two(low: int, high: int) -> Check:
    """A size in bytes that is a power of two: ``4194304`` or ``4MiB``."""

    def parse(text: str) -> int:
        found = re.fullmatch(r"([0-9]{1,12})(|B|KiB|MiB|GiB)", text)
        if found is None:
            raise ValueError
        size = within(int(found[1]) * _SIZE_UNITS[found[2]], low, high)
        if size & (size - 1):
            raise ValueError
        return size

    return Check(parse, f"a power of two of bytes from {low} to {high}, such as 4194304 or 4MiB")


def ports() -> Check:
    """Ports and ranges, ``80,8000-8999``, as pairs (first, last)."""

    def parse(text: str) -> tuple[tuple[int, int], ...]:
        return tuple(_port_range(item) for item in items(text))

    return Check(parse, "ports and ranges from 1 to 65535, such as 80,443,8000-8999", many=True)


def _port_range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    if found is None:
        raise ValueError
    first = within(int(found[1]), 1, 65535)
    return first, within(int(found[2] or found[1]), first, 65535)


def pids() -> Check:
    """Process ids, ``17,4242``; the largest is the kernel's PID_MAX_LIMIT on 64 bits."""
    one = whole(1, 1 << 22)
    return Check(lambda text: tuple(one.parse(item) for item in items(text)), "process ids, such as 17,4242", many=True)


def globs() -> Check:
    """Globs over the executable's path; a comma inside ``{…}`` separates alternatives, not globs."""

    def parse(text: str) -> tuple[str, ...]:
        return tuple(_checked_glob(item) for item in items(text, separator=r",(?![^{]*\})"))

    return Check(parse, "globs over the full path of the executable, such as */nginx,/opt/{app,tool}/*", many=True)


def _checked_glob(text: str) -> str:
    glob_pattern(text)
    return text


def glob_pattern(glob: str) -> re.Pattern[str]:
    """Compile a glob: ``*`` any text (with slashes), ``?`` a character, ``[a-z]`` a class, ``{a,b}`` one of these.

    Raises:
        ValueError: Braces that are not closed, stand in one another, or give more than ``MAX_ITEMS`` globs.
    """
    parts = re.split(r"\{([^{}]*)\}", glob)  # every second part stood in braces
    choices = [part.split(",") if number % 2 else [part] for number, part in enumerate(parts)]
    if math.prod(map(len, choices)) > MAX_ITEMS or any(set("{}") & set(part) for part in parts):
        raise ValueError
    return re.compile("|".join(fnmatch.translate("".join(chosen)) for chosen in itertools.product(*choices)))


def hooks() -> Check:
    """Hooks of the probe table, or one kind of a hook: ``netif_rx``, ``capture.tp_btf``."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(items(text))
        if not all(_HOOK.fullmatch(item) for item in found):
            raise ValueError
        return found

    return Check(parse, "hooks as `otel-ebpf check` names them, or hook.kind, such as payload.tp_btf,accept", many=True)


def routes() -> Check:
    """Route patterns: ``/users/{id}/orders``, ``/static/*``."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(items(text))
        if not all(item.startswith("/") and _ROUTE.fullmatch(item) for item in found):
            raise ValueError
        return found

    return Check(
        parse, "path patterns such as /users/{id}/orders,/users/:id,/static/* (a star only at the end)", many=True
    )


def url() -> Check:
    """The URL of an OTLP receiver."""

    def parse(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.port == 0:
            raise ValueError
        if parts.query or parts.fragment or re.search(r"\s", text):
            raise ValueError
        return text

    return Check(parse, "a URL such as http://localhost:4317 (credentials go into OTEL_EXPORTER_OTLP_HEADERS)")


def text(high: int, what: str) -> Check:
    """Free text up to *high* characters."""

    def parse(value: str) -> str:
        if len(value) > high:
            raise ValueError
        return value

    return Check(parse, f"{what}, at most {high} characters")


def pairs() -> Check:
    """``key=value,key=value`` with percent-encoded values (W3C Baggage, as the OpenTelemetry specification asks)."""

    def parse(value: str) -> tuple[tuple[str, str], ...]:
        return tuple(dict(_pair(item) for item in items(value)).items())

    return Check(parse, "key=value pairs, such as deployment.environment.name=test,team=web", many=True)


def _pair(item: str) -> tuple[str, str]:
    key, separator, value = item.partition("=")
    if not separator or not _KEY.fullmatch(key.strip()):
        raise ValueError
    return unquote(key.strip(), errors="strict"), unquote(value.strip(), errors="strict")


def items(value: str, separator: str = ",") -> list[str]:
    """Split a list; blanks around an item do not count, an empty item (a comma at the end) is left out.

    Raises:
        ValueError: More than ``MAX_ITEMS``, or nothing but commas.
    """
    found = [item.strip() for item in re.split(separator, value)]
    found = [item for item in found if item]
    if not 0 < len(found) <= MAX_ITEMS:
        raise ValueError
    return found


def within(number: N, low: N, high: N) -> N:
    """Return *number* if it stands within bounds.

    Raises:
        ValueError: It does not.
    """
    if not low <= number <= high:
        raise ValueError
    return number
