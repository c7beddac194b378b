"""The composition root: what it makes of the settings before it builds anything."""

from __future__ import annotations

from otel_ebpf.agent import _profiled
from otel_ebpf.config import Settings


def test_light_profile_tells_no_single_exchange() -> None:
    """With the light profile no exchange becomes a log record or a span, whatever the other settings say."""
    settings = Settings.from_environment({"OTEL_EBPF_PROFILE": "light", "OTEL_EBPF_EXCHANGE_LOGS": "all"})
    assert (_profiled(settings).exchange_logs, _profiled(settings).exchange_spans) == ("off", "off")


def test_default_profile_leaves_the_settings_alone() -> None:
    """Without a profile the settings are taken as they are."""
    settings = Settings.from_environment({"OTEL_EBPF_EXCHANGE_LOGS": "all"})
    assert _profiled(settings) is settings
