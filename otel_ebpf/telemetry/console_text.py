"""Small texts for the console: sizes, durations, names, made safe and short.

In: values of attributes. Out: text.
"""

from __future__ import annotations

from typing import Any, Final

from otel_ebpf.telemetry import names

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def plain(text: str) -> str:
    """Return text that cannot steer a terminal: what came over a wire may hold escape sequences."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def duration(seconds: float) -> str:
    """Return a duration with three digits at most that matter: ``850 µs``, ``12.3 ms``, ``4.2 s``."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else "1.00 s"
    return f"{seconds:.2f} s"


def size(number: float | None) -> str:
    """Return a size in binary units; ``-`` where it is unknown."""
    if number is None:
        return "-"
    unit = 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.0f} B" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"


def value_of(value: Any) -> Any:
    """Return what an ``AnyValue`` holds."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def attributes_of(fields: Any) -> dict[str, Any]:
    """Return repeated ``KeyValue`` as a dict."""
    return {field.key: value_of(field.value) for field in fields}


def service(resource: Any) -> str:
    """Return the name of a workload."""
    for field in resource.attributes:
        if field.key == names.SERVICE_NAME:
            return plain(field.value.string_value)
    return "?"
