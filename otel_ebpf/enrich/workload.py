"""Workloads: the Resource of whoever runs a process.

In: facts and settings. Out: :class:`Workload`. Without Kubernetes the rules are: ``service.name`` is the container's
name, else the executable's; ``service.instance.id`` is the container's id, else ``<host>/<executable>``: all
processes of one executable on one host are one instance, however often they are started again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_ebpf.config import Settings
from otel_ebpf.enrich.facts import ContainerFacts, HostFacts, ProcessFacts

UNKNOWN_SERVICE: Final = "unknown_service"  # Resource conventions: the name of a service without a name

# OTEL_RESOURCE_ATTRIBUTES describes the place the agent runs at. What begins like this would describe the agent itself,
# and may not be said of the workloads it watches.
_AGENTS_OWN: Final = ("service.", "process.", "container.", "telemetry.", "k8s.", "faas.", "webengine.")
_OF_THE_PLACE: Final = ("k8s.cluster.", "k8s.node.")


@dataclass(frozen=True, slots=True)
class Workload:
    """Who runs a process, as OpenTelemetry sees it.

    Attributes:
        service_name: ``service.name``.
        service_namespace: ``service.namespace``; None when there is none.
        service_instance_id: ``service.instance.id``.
        attributes: The whole Resource, the three above among it, sorted by key.
    """

    service_name: str
    service_namespace: str | None
    service_instance_id: str
    attributes: tuple[tuple[str, str], ...]


def place_attributes(given: tuple[tuple[str, str], ...], cluster: str | None) -> dict[str, str]:
    """Return what ``OTEL_RESOURCE_ATTRIBUTES`` and the cluster's name say about every workload on this node."""
    found = {key: value for key, value in given if not key.startswith(_AGENTS_OWN) or key.startswith(_OF_THE_PLACE)}
    return found | ({"k8s.cluster.name": cluster} if cluster else {})


def workload_of(
    process: ProcessFacts, container: ContainerFacts | None, host: HostFacts, place: Mapping[str, str]
) -> Workload:
    """Return the Resource of a process; *place* (:func:`place_attributes`) may rename the host, nothing else."""
    executable = process.name or UNKNOWN_SERVICE
    found = {"host.name": host.name, **place}
    name = executable
    instance = f"{found['host.name']}/{executable}"
    if process.name:
        found["process.executable.name"] = process.name
    if container is not None:
        name = container.name or executable
        instance = container.id
        found["container.id"] = container.id
        if container.pod_uid is not None:
            found["k8s.pod.uid"] = container.pod_uid
    return _workload(name, instance, found)


def agent_workload(settings: Settings, host: HostFacts, version: str) -> Workload:
    """Return the Resource of the agent's own telemetry: everything ``OTEL_RESOURCE_ATTRIBUTES`` says is true of it."""
    found = {"host.name": host.name, "service.version": version, **dict(settings.resource_attributes)}
    return _workload(settings.service_name, found.get("service.instance.id", found["host.name"]), found)


def _workload(name: str, instance: str, attributes: dict[str, str]) -> Workload:
    whole = attributes | {"service.name": name, "service.instance.id": instance}
    return Workload(name, whole.get("service.namespace"), instance, tuple(sorted(whole.items())))
