"""The settings: one field each, with its environment variable, default, help and check.

In: environment variables. Out: a frozen :class:`Settings`, or one error that names every
wrong variable and what is allowed.
The command line, ``docs/configuration.md`` and ``otel-ebpf settings`` derive from the table below.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from otel_ebpf import settings_parse as of
from otel_ebpf.errors import SettingError
from otel_ebpf.settings_parse import Check

PREFIX: Final = "OTEL_EBPF_"
Values = Mapping[str, Any]


def setting(env: str, check: Check, default: str, meaning: str, derived: Callable[[Values], Any] | None = None) -> Any:
    """Declare one setting.

    Args:
        env: The environment variable.
        check: What it may be.
        default: Its default as a person would write it; empty: nothing.
        meaning: One sentence of help.
        derived: Where the default depends on other settings: from their values to it.
    """
    metadata = {"env": env, "check": check, "default": default, "help": meaning, "derived": derived}
    return field(default=check.parse(default) if default else _nothing(check), metadata=metadata)


def _nothing(check: Check) -> Any:
    """Lists are empty tuples when unset, everything else None."""
    return () if check.many else None


def _exporter(signal: str) -> Callable[[Values], str]:
    def derive(values: Values) -> str:
        return "otlp" if values["otlp_endpoint"] or values[f"otlp_{signal}_endpoint"] else "console"

    return derive


def _protocol(values: Values) -> str:
    """Guess by the port, as OpenTelemetry's eBPF instrumentation does: 4317 is gRPC's by convention."""
    return _guessed_protocol(values["otlp_endpoint"] or "")


def _guessed_protocol(endpoint: str) -> str:
    return "grpc" if re.fullmatch(r"https?://[^/]*:4317/?", endpoint) else "http/protobuf"


def _interval_s(values: Values) -> float:
    return 10.0 if values["metrics_exporter"] == "console" else 60.0


_PROTOCOLS: Final = of.choice("grpc", "http/protobuf")
_EXPORTERS: Final = of.choice("otlp", "console", "otlp_file", "none")
_DETAIL: Final = of.choice("all", "notable", "off")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of the agent; immutable, made once and handed down. Durations are seconds, sizes bytes."""

    # What is watched
    profile: str = setting(
        "OTEL_EBPF_PROFILE",
        of.choice("default", "light"),
        "default",
        "How much is told: metrics, log records and spans of exchanges (default), or metrics only (light).",
    )
    open_ports: tuple[tuple[int, int], ...] = setting(
        "OTEL_EBPF_OPEN_PORT", of.ports(), "", "Watch only workloads that serve on one of these ports."
    )
    target_exes: tuple[str, ...] = setting(
        "OTEL_EBPF_AUTO_TARGET_EXE", of.globs(), "", "Watch only processes whose executable's full path matches."
    )
    target_pids: tuple[int, ...] = setting("OTEL_EBPF_TARGET_PID", of.pids(), "", "Watch only these processes.")
    exclude_instrumented: bool = setting(
        "OTEL_EBPF_EXCLUDE_INSTRUMENTED",
        of.switch(),
        "false",
        "Send no spans for workloads that send their own (seen by their own requests to an OTLP receiver).",
    )
    kube_cluster_name: str | None = setting(
        "OTEL_EBPF_KUBE_CLUSTER_NAME", of.text(253, "a name"), "", "k8s.cluster.name of every workload's Resource."
    )
    routes: tuple[str, ...] = setting(
        "OTEL_EBPF_ROUTES",
        of.routes(),
        "",
        "Route patterns, tried in order before ids are recognised: {id} or :id is one segment, a last * the rest.",
    )
    route_limit: int = setting(
        "OTEL_EBPF_ROUTE_LIMIT",
        of.whole(1, 10_000),
        "100",
        "Distinct routes of one service; what is new beyond them is reported under its first segment and `*`.",
    )
    probes_off: tuple[str, ...] = setting(
        "OTEL_EBPF_PROBES_OFF", of.hooks(), "", "Hooks, or single kinds of a hook, that are not to be attached."
    )

    # What is told
    exchange_logs: str = setting(
        "OTEL_EBPF_EXCHANGE_LOGS",
        _DETAIL,
        "notable",
        "Exchanges that become log records; notable: errors, slow ones, 1 in N.",
    )
    exchange_spans: str = setting("OTEL_EBPF_EXCHANGE_SPANS", _DETAIL, "notable", "Exchanges that become spans.")
    notable_ratio: int = setting(
        "OTEL_EBPF_NOTABLE_ONE_IN",
        of.whole(1, 10**9),
        "100",
        "N: of the exchanges not notable by themselves, 1 in N is.",
    )
    slow_threshold_s: float = setting(
        "OTEL_EBPF_SLOW_THRESHOLD",
        of.duration(0.001, 3600, "from 1ms to 1h"),
        "1s",
        "An exchange that lasts at least this long is slow, and so notable.",
    )
    peer_addresses: str = setting(
        "OTEL_EBPF_PEER_ADDRESSES",
        of.choice("off", "private", "all"),
        "off",
        "Addresses of unnamed peers that metrics carry: none, those of private networks, all (mind the cardinality).",
    )
    metrics_ttl_s: float = setting(
        "OTEL_EBPF_METRICS_TTL",
        of.duration(1, 7 * 86400, "from 1s to 168h"),
        "5m",
        "A series idle for this long is forgotten.",
    )
    cardinality_limit: int = setting(
        "OTEL_EBPF_CARDINALITY_LIMIT",
        of.whole(10, 1_000_000),
        "2000",
        "Series of one instrument; more become one with otel.metric.overflow.",
    )

    # Bounds in the kernel
    max_flows: int = setting(
        "OTEL_EBPF_MAX_FLOWS",
        of.whole(64, 1 << 20),
        "32768",
        "Connections tracked at once; more are counted as not tracked.",
    )
    ring_bytes: int = setting(
        "OTEL_EBPF_RING_SIZE", of.power_of_two(64 << 10, 1 << 30), "4MiB", "Ring buffer between kernel and agent."
    )

    # Where to
    otlp_endpoint: str | None = setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT", of.url(), "", "OTLP receiver; over HTTP, v1/metrics and so on are appended."
    )
    otlp_metrics_endpoint: str | None = setting(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", of.url(), "", "OTLP receiver of metrics, taken as it is."
    )
    otlp_logs_endpoint: str | None = setting(
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", of.url(), "", "OTLP receiver of logs, taken as it is."
    )
    otlp_traces_endpoint: str | None = setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", of.url(), "", "OTLP receiver of spans, taken as it is."
    )
    otlp_protocol: str = setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        _PROTOCOLS,
        "http/protobuf",
        "Protocol of OTLP; not given: grpc when the endpoint's port is 4317.",
        derived=_protocol,
    )
    otlp_metrics_protocol: str | None = setting(
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", _PROTOCOLS, "", "Protocol of metrics, where it is another one."
    )
    otlp_logs_protocol: str | None = setting(
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", _PROTOCOLS, "", "Protocol of logs, where it is another one."
    )
    otlp_traces_protocol: str | None = setting(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", _PROTOCOLS, "", "Protocol of spans, where it is another one."
    )
    metrics_exporter: str = setting(
        "OTEL_METRICS_EXPORTER",
        _EXPORTERS,
        "console",
        "Where metrics go; not given: otlp when an endpoint is.",
        derived=_exporter("metrics"),
    )
    logs_exporter: str = setting(
        "OTEL_LOGS_EXPORTER",
        _EXPORTERS,
        "console",
        "Where log records go; not given: otlp when an endpoint is.",
        derived=_exporter("logs"),
    )
    traces_exporter: str = setting(
        "OTEL_TRACES_EXPORTER",
        _EXPORTERS,
        "console",
        "Where spans go; not given: otlp when an endpoint is.",
        derived=_exporter("traces"),
    )
    otlp_file: str = setting(
        "OTEL_EBPF_OTLP_FILE",
        of.text(4095, "a path"),
        "-",
        "File of the otlp_file exporter, OTLP/JSON lines; - is standard output.",
    )
    metric_interval_s: float = setting(
        "OTEL_METRIC_EXPORT_INTERVAL",
        of.milliseconds(100, 86_400_000),
        "10000",
        "How often metrics are sent; not given: 60000, on the console 10000.",
        derived=_interval_s,
    )
    temporality: str = setting(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        of.choice("cumulative", "delta", "lowmemory"),
        "cumulative",
        "Whether sums and histograms tell totals or differences.",
    )
    traces_sampler: str = setting(
        "OTEL_TRACES_SAMPLER",
        of.choice(
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ),
        "parentbased_always_on",
        "Which exchanges may have spans.",
    )
    traces_sampler_arg: float = setting(
        "OTEL_TRACES_SAMPLER_ARG", of.ratio(), "1", "Ratio of the traceidratio samplers."
    )
    resource_attributes: tuple[tuple[str, str], ...] = setting(
        "OTEL_RESOURCE_ATTRIBUTES", of.pairs(), "", "Added to every Resource, except what names a service."
    )
    service_name: str = setting(
        "OTEL_SERVICE_NAME",
        of.text(255, "a name"),
        "otel-ebpf",
        "service.name of the agent itself, never of a workload.",
    )
    log_level: str = setting(
        "OTEL_EBPF_LOG_LEVEL",
        of.choice("debug", "info", "warn", "error"),
        "info",
        "The agent's own log, on standard error.",
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read every setting; an empty variable counts as unset, as the OpenTelemetry specification says.

        Raises:
            SettingError: At least one variable is wrong, or an unknown ``OTEL_EBPF_*``; the text has a line for each.
        """
        problems = unknown_variables(environment)
        values: dict[str, Any] = {}
        for row in fields(cls):
            try:
                values[row.name] = _value(row.metadata, row.default, environment)
            except ValueError:
                problems.append(_refusal(row.metadata, environment))
        if problems:
            raise SettingError("\n".join(problems))
        return cls(**_derive(values, environment))

    def exporter(self, signal: str) -> str:
        """Return where *signal* (``metrics``, ``logs``, ``traces``) goes: otlp, console, otlp_file or none."""
        return str(getattr(self, f"{signal}_exporter"))

    def protocol(self, signal: str) -> str:
        """Return the OTLP protocol of *signal*: its own, else by its own endpoint's port, else the common one."""
        own: str | None = getattr(self, f"otlp_{signal}_protocol")
        endpoint: str | None = getattr(self, f"otlp_{signal}_endpoint")
        return own or (_guessed_protocol(endpoint) if endpoint else self.otlp_protocol)

    def endpoint(self, signal: str) -> str:
        """Return the URL that *signal* is sent to (OTLP Exporter specification, "Endpoint URLs for OTLP/HTTP")."""
        own: str | None = getattr(self, f"otlp_{signal}_endpoint")
        if own:
            return own
        if self.protocol(signal) == "grpc":
            return self.otlp_endpoint or "http://localhost:4317"
        return f"{(self.otlp_endpoint or 'http://localhost:4318').rstrip('/')}/v1/{signal}"


def given(environment: Mapping[str, str], env: str) -> str:
    """Return a variable's text without blanks around it; empty when unset."""
    return environment.get(env, "").strip()


def _value(metadata: Values, default: Any, environment: Mapping[str, str]) -> Any:
    text = given(environment, metadata["env"])
    if not text:
        return default
    if len(text) > of.MAX_TEXT or not text.isprintable():
        raise ValueError
    return metadata["check"].parse(text)


def _derive(values: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Fill in, in the order of the table, the defaults that depend on other settings."""
    for row in fields(Settings):
        if row.metadata["derived"] and not given(environment, row.metadata["env"]):
            values[row.name] = row.metadata["derived"](values)
    return values


def _refusal(metadata: Values, environment: Mapping[str, str]) -> str:
    check, text = metadata["check"], given(environment, metadata["env"])
    near = difflib.get_close_matches(text[:64].lower(), check.choices, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{metadata['env']}={_quoted(text)} is not valid{hint}: allowed is {check.allowed}"


def _quoted(text: str) -> str:
    """Show a value safely: escaped, cut to a line's length, without the password of a URL."""
    shown = re.sub(r"//[^/@]*@", "//***@", text)
    return ascii(shown) if len(shown) <= 80 else f"{shown[:77]!a}… ({len(shown)} characters)"


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Say of every variable with our prefix that is no setting that it is none, and which one may have been meant."""
    known = [row.metadata["env"] for row in fields(Settings)]
    strangers = sorted(
        name
        for name in environment
        if name.startswith(PREFIX) and name not in known and not _is_service_link(name, environment)
    )
    return [_stranger(name, known) for name in strangers]


def _stranger(name: str, known: list[str]) -> str:
    own = [env.removeprefix(PREFIX) for env in known if env.startswith(PREFIX)]
    near = difflib.get_close_matches(name[len(PREFIX) : 128], own, n=1)
    hint = f"did you mean {PREFIX}{near[0]}?" if near else "`otel-ebpf settings` lists them all"
    return f"{_quoted(name)[1:-1]} is not a setting: {hint}"


def _is_service_link(name: str, environment: Mapping[str, str]) -> bool:
    """Tell whether Kubernetes put it there: a Service ``otel-ebpf`` gives pods OTEL_EBPF_SERVICE_HOST and so on."""
    found = re.fullmatch(
        r"(.+?)_(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)", name
    )
    return found is not None and f"{found[1]}_SERVICE_HOST" in environment
