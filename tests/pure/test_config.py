"""Settings: what is read, what is refused, and in which words."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.config import Settings
from otel_ebpf.errors import SettingError
from otel_ebpf.settings_docs import setting_rows, settings_markdown
from otel_ebpf.settings_parse import glob_pattern

VARIABLES = [row.metadata["env"] for row in fields(Settings)]


def read(**environment: str) -> Settings:
    """Read settings from the variables given by name."""
    return Settings.from_environment(environment)


def refusal(**environment: str) -> str:
    """Return the sentence with which an environment is refused."""
    with pytest.raises(SettingError) as caught:
        Settings.from_environment(environment)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_without_environment_every_setting_has_its_default() -> None:
    """An empty environment gives the same settings as the constructor."""
    assert read() == Settings()


def test_settings_cannot_be_changed() -> None:
    """Settings are frozen: nobody changes them behind another's back."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().profile = "light"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("OTEL_EBPF_PROFILE", "light", "profile", "light"),
        ("OTEL_EBPF_LOG_LEVEL", "DEBUG", "log_level", "debug"),
        ("OTEL_EBPF_OPEN_PORT", "80", "open_ports", ((80, 80),)),
        ("OTEL_EBPF_OPEN_PORT", " 80, 443,8000-8999,", "open_ports", ((80, 80), (443, 443), (8000, 8999))),
        ("OTEL_EBPF_AUTO_TARGET_EXE", "*/nginx,/opt/{app,tool}/*", "target_exes", ("*/nginx", "/opt/{app,tool}/*")),
        ("OTEL_EBPF_TARGET_PID", "17, 4194304", "target_pids", (17, 4194304)),
        ("OTEL_EBPF_EXCLUDE_INSTRUMENTED", "True", "exclude_instrumented", True),
        ("OTEL_EBPF_KUBE_CLUSTER_NAME", "blue", "kube_cluster_name", "blue"),
        ("OTEL_EBPF_METRICS_TTL", "1h30m", "metrics_ttl_s", 5400.0),
        ("OTEL_EBPF_SLOW_THRESHOLD", "250ms", "slow_threshold_s", 0.25),
        ("OTEL_EBPF_SLOW_THRESHOLD", "1.5s", "slow_threshold_s", 1.5),
        ("OTEL_EBPF_EXCHANGE_LOGS", "all", "exchange_logs", "all"),
        ("OTEL_EBPF_EXCHANGE_SPANS", "off", "exchange_spans", "off"),
        ("OTEL_EBPF_NOTABLE_ONE_IN", "1", "notable_ratio", 1),
        ("OTEL_EBPF_ROUTES", "/users/{id},/a/:b/c,/static/*", "routes", ("/users/{id}", "/a/:b/c", "/static/*")),
        ("OTEL_EBPF_ROUTE_LIMIT", "7", "route_limit", 7),
        ("OTEL_EBPF_MAX_FLOWS", "100000", "max_flows", 100_000),
        ("OTEL_EBPF_RING_SIZE", "8MiB", "ring_bytes", 8 << 20),
        ("OTEL_EBPF_RING_SIZE", "65536", "ring_bytes", 65536),
        ("OTEL_EBPF_OTLP_FILE", "out.jsonl", "otlp_file", "out.jsonl"),
        ("OTEL_EBPF_PEER_ADDRESSES", "private", "peer_addresses", "private"),
        ("OTEL_EBPF_PROBES_OFF", "payload.tp_btf,accept", "probes_off", ("payload.tp_btf", "accept")),
        ("OTEL_EBPF_CARDINALITY_LIMIT", "10", "cardinality_limit", 10),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1500", "metric_interval_s", 1.5),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "DELTA", "temporality", "delta"),
        ("OTEL_TRACES_SAMPLER", "traceidratio", "traces_sampler", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25", "traces_sampler_arg", 0.25),
        ("OTEL_TRACES_SAMPLER_ARG", ".5", "traces_sampler_arg", 0.5),
        ("OTEL_SERVICE_NAME", "watcher", "service_name", "watcher"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test, team=a%20b",
            "resource_attributes",
            (("deployment.environment.name", "test"), ("team", "a b")),
        ),
        ("OTEL_METRICS_EXPORTER", "otlp_file", "metrics_exporter", "otlp_file"),
    ],
)
def test_a_value_is_read_as_it_is_meant(variable: str, text: str, name: str, value: object) -> None:
    """Each variable arrives in its field with its type and unit."""
    assert getattr(read(**{variable: text}), name) == value


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_empty_variable_counts_as_unset(variable: str) -> None:
    """Empty and blank variables change nothing (OpenTelemetry specification: an empty value)."""
    assert read(**{variable: ""}) == Settings()
    assert read(**{variable: "  "}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTEL_EBPF_PROFILE", "deepest"),
        ("OTEL_EBPF_OPEN_PORT", "0"),
        ("OTEL_EBPF_OPEN_PORT", "65536"),
        ("OTEL_EBPF_OPEN_PORT", "90-80"),
        ("OTEL_EBPF_OPEN_PORT", "-1"),
        ("OTEL_EBPF_OPEN_PORT", ","),
        ("OTEL_EBPF_OPEN_PORT", "80;81"),
        ("OTEL_EBPF_OPEN_PORT", "80," * 257),
        ("OTEL_EBPF_AUTO_TARGET_EXE", "{a,b"),
        ("OTEL_EBPF_AUTO_TARGET_EXE", "{a,{b,c}}"),
        ("OTEL_EBPF_AUTO_TARGET_EXE", "{a,b}" * 9),
        ("OTEL_EBPF_TARGET_PID", "0"),
        ("OTEL_EBPF_TARGET_PID", "99999999999999999999"),
        ("OTEL_EBPF_EXCLUDE_INSTRUMENTED", "yes"),
        ("OTEL_EBPF_METRICS_TTL", "300"),
        ("OTEL_EBPF_METRICS_TTL", "-5m"),
        ("OTEL_EBPF_METRICS_TTL", "NaNs"),
        ("OTEL_EBPF_METRICS_TTL", "0s"),
        ("OTEL_EBPF_METRICS_TTL", "169h"),
        ("OTEL_EBPF_METRICS_TTL", "\u0665m"),
        ("OTEL_EBPF_SLOW_THRESHOLD", "1e9s"),
        ("OTEL_EBPF_SLOW_THRESHOLD", "inf"),
        ("OTEL_EBPF_NOTABLE_ONE_IN", "0"),
        ("OTEL_EBPF_NOTABLE_ONE_IN", "1.5"),
        ("OTEL_EBPF_ROUTES", "users"),
        ("OTEL_EBPF_ROUTES", "/a/*/b"),
        ("OTEL_EBPF_ROUTES", "/{id"),
        ("OTEL_EBPF_MAX_FLOWS", "1e6"),
        ("OTEL_EBPF_MAX_FLOWS", "9" * 5000),
        ("OTEL_EBPF_MAX_FLOWS", "\u0663\u0663\u0663\u0663"),
        ("OTEL_EBPF_RING_SIZE", "3MiB"),
        ("OTEL_EBPF_RING_SIZE", "4MB"),
        ("OTEL_EBPF_RING_SIZE", "32KiB"),
        ("OTEL_EBPF_OTLP_FILE", "a\tb"),
        ("OTEL_EBPF_OTLP_FILE", "x" * 4096),
        ("OTEL_EBPF_PROBES_OFF", "a.b.c"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "10s"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "99"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.01"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_METRICS_EXPORTER", "otlp,console"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:99999"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://col lector"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%ff"),
        ("OTEL_SERVICE_NAME", "a\x1b[31mb"),
        ("OTEL_SERVICE_NAME", "a\udc80b"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_name(variable: str, text: str) -> None:
    """The sentence names the variable and what is allowed, fits on one line and carries no control characters."""
    sentence = refusal(**{variable: text})
    assert sentence.startswith(f"{variable}=")
    assert ": allowed is " in sentence
    assert sentence.isprintable()
    assert len(sentence) < 400


def test_the_refusal_says_what_was_perhaps_meant() -> None:
    """A near miss of a choice is answered with the choice."""
    assert refusal(OTEL_EBPF_PROFILE="ligth") == (
        "OTEL_EBPF_PROFILE='ligth' is not valid (did you mean light?): allowed is default | light"
    )


def test_every_wrong_variable_is_named_at_once() -> None:
    """The whole configuration is judged, one line per problem."""
    lines = refusal(OTEL_EBPF_PROFIL="light", OTEL_EBPF_MAX_FLOWS="many", OTEL_EBPF_OPEN_PORT="http").split("\n")
    assert lines == [
        "OTEL_EBPF_PROFIL is not a setting: did you mean OTEL_EBPF_PROFILE?",
        (
            "OTEL_EBPF_OPEN_PORT='http' is not valid: "
            "allowed is ports and ranges from 1 to 65535, such as 80,443,8000-8999"
        ),
        "OTEL_EBPF_MAX_FLOWS='many' is not valid: allowed is a whole number from 64 to 1048576",
    ]


def test_an_unknown_variable_without_a_neighbour_points_to_the_list() -> None:
    """Where nothing is near, the sentence says where all settings are listed."""
    assert refusal(OTEL_EBPF_ZZZZZZ="1") == "OTEL_EBPF_ZZZZZZ is not a setting: `otel-ebpf settings` lists them all"


def test_variables_of_a_kubernetes_service_are_not_taken_for_settings() -> None:
    """A Service named otel-ebpf or otel-ebpf-collector gives pods variables with our prefix: no mistake."""
    service = {
        "OTEL_EBPF_SERVICE_HOST": "10.0.0.1",
        "OTEL_EBPF_SERVICE_PORT": "4317",
        "OTEL_EBPF_SERVICE_PORT_OTLP": "4317",
        "OTEL_EBPF_PORT": "tcp://10.0.0.1:4317",
        "OTEL_EBPF_PORT_4317_TCP": "tcp://10.0.0.1:4317",
        "OTEL_EBPF_PORT_4317_TCP_ADDR": "10.0.0.1",
        "OTEL_EBPF_COLLECTOR_SERVICE_HOST": "10.0.0.2",
        "OTEL_EBPF_COLLECTOR_PORT_4317_TCP_PROTO": "tcp",
    }
    assert Settings.from_environment(service) == Settings()
    assert "did you mean OTEL_EBPF_OPEN_PORT?" in refusal(OTEL_EBPF_OPN_PORT="80")


def test_the_password_of_an_endpoint_is_not_repeated() -> None:
    """A URL with credentials is refused without showing them."""
    sentence = refusal(OTEL_EXPORTER_OTLP_ENDPOINT="http://me:secret@collector:4317")
    assert "secret" not in sentence
    assert "OTEL_EXPORTER_OTLP_HEADERS" in sentence


@pytest.mark.parametrize(
    ("environment", "metrics", "logs", "interval_s"),
    [
        ({}, "console", "console", 10.0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "otlp", "otlp", 60.0),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c:4317"}, "console", "otlp", 10.0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_LOGS_EXPORTER": "none"}, "otlp", "none", 60.0),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "5000"}, "otlp", "console", 5.0),
    ],
)
def test_an_endpoint_turns_the_default_exporter_to_otlp(
    environment: dict[str, str], metrics: str, logs: str, interval_s: float
) -> None:
    """Exporters and the metric interval follow from what is given, unless they are given themselves."""
    found = Settings.from_environment(environment)
    assert (found.exporter("metrics"), found.exporter("logs"), found.metric_interval_s) == (metrics, logs, interval_s)


@pytest.mark.parametrize(
    ("environment", "protocol", "endpoint"),
    [
        ({}, "http/protobuf", "http://localhost:4318/v1/logs"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc", "http://localhost:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "grpc", "http://c:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/otlp/"}, "http/protobuf", "http://c:4318/otlp/v1/logs"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "http/protobuf",
            "http://c:4317/v1/logs",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://d/in"},
            "http/protobuf",
            "https://d/in",
        ),
        (
            {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://d/in", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"},
            "grpc",
            "https://d/in",
        ),
    ],
)
def test_endpoint_and_protocol_of_a_signal(environment: dict[str, str], protocol: str, endpoint: str) -> None:
    """Over HTTP the common endpoint gets the signal's path, a signal's own is taken as it is; port 4317 means gRPC."""
    found = Settings.from_environment(environment)
    assert (found.protocol("logs"), found.endpoint("logs")) == (protocol, endpoint)


@given(st.sampled_from(VARIABLES), st.text(st.characters(exclude_characters="\0"), max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_or_refused_in_one_printable_line(variable: str, text: str) -> None:
    """No text makes anything but settings or one sentence that names the variable."""
    try:
        sentence = f"{variable}={Settings.from_environment({variable: text})}"
    except SettingError as error:
        sentence = str(error)
    assert sentence.startswith(f"{variable}=")
    assert sentence.isprintable()


@given(st.text(st.sampled_from("ab/*?[]{},!-^\\."), max_size=30), st.text(max_size=50))
@settings(max_examples=300, deadline=None)
def test_any_glob_compiles_or_is_refused(glob: str, path: str) -> None:
    """A glob either matches paths or is a ValueError, never anything else."""
    try:
        pattern = glob_pattern(glob)
    except ValueError:
        assert set("{}") & set(glob)
    else:
        pattern.match(path)


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("*/nginx", "/usr/sbin/nginx", True),
        ("*/nginx", "/usr/sbin/nginx2", False),
        ("/opt/{app,tool}/*", "/opt/tool/bin/x", True),
        ("/opt/{app,tool}/*", "/opt/other/x", False),
        ("*/python3.1[0-9]", "/usr/bin/python3.11", True),
        ("*/python3.1[!0-9]", "/usr/bin/python3.11", False),
        ("/bin/s?", "/bin/sh", True),
        ("/bin/s?", "/bin/s", False),
        ("nginx", "/usr/sbin/nginx", False),
    ],
)
def test_globs_match_the_whole_path(glob: str, path: str, *, matches: bool) -> None:
    """``*`` goes over slashes, braces are alternatives, and the whole path has to match."""
    assert (glob_pattern(glob).match(path) is not None) is matches


def test_every_default_is_allowed_and_documented() -> None:
    """The table is sound: unique variables, a sentence of help each, and a default that its own check accepts."""
    assert len(set(VARIABLES)) == len(VARIABLES)
    for row in fields(Settings):
        assert row.metadata["help"].endswith("."), row.name
        default = row.metadata["default"]
        assert row.default == (row.metadata["check"].parse(default) if default else row.default), row.name


def test_rows_say_where_a_value_comes_from() -> None:
    """``otel-ebpf settings`` shows value and source, and what derived defaults came to."""
    rows = {row.name: row for row in setting_rows({"OTEL_EBPF_PROFILE": "light", "OTEL_METRICS_EXPORTER": "none"})}
    assert (rows["OTEL_EBPF_PROFILE"].value, rows["OTEL_EBPF_PROFILE"].source) == ("light", "environment")
    assert (rows["OTEL_EBPF_RING_SIZE"].value, rows["OTEL_EBPF_RING_SIZE"].source) == ("4MiB", "default")
    assert rows["OTEL_METRIC_EXPORT_INTERVAL"].value == "60000"


def test_the_markdown_has_every_setting_once() -> None:
    """Each variable has one row in docs/configuration.md."""
    assert sorted(re.findall(r"^\| `(\w+)` \|", settings_markdown(), re.MULTILINE)) == sorted(VARIABLES)
