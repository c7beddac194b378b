"""Workloads, peers, selectors, and the enricher that asks them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from importlib.metadata import version
from ipaddress import ip_address
from typing import Final

import pytest

from otel_ebpf.config import Settings
from otel_ebpf.enrich import enricher as enricher_module
from otel_ebpf.enrich.enricher import Enricher
from otel_ebpf.enrich.facts import ContainerFacts, FactLog, HostFacts, ProcessFacts, RecordedFacts
from otel_ebpf.enrich.peer import MAX_SERVERS, Peer, Peers, is_loopback, is_private
from otel_ebpf.enrich.workload import Workload
from otel_ebpf.records import ROLE_CLIENT, ROLE_SERVER, EdgeKey, Listener

HERE: Final = HostFacts("node-1", agent_tgid=99, agent_netns=1)
WEB: Final = ContainerFacts("c" * 64, "docker", name="shop-web-1")
POD: Final = ContainerFacts("d" * 64, "containerd", pod_uid="6a2c1b7e-9f1d-4f8e-8a35-0c4f2f1f8d11")


class Facts:
    """A machine with a few processes: nginx, node in a container, curl, the agent, a Collector."""

    def __init__(self) -> None:
        self.processes = {
            10: ProcessFacts("nginx", "/usr/sbin/nginx"),
            20: ProcessFacts("node", "/usr/local/bin/node"),
            30: ProcessFacts("curl", "/usr/bin/curl"),
            40: ProcessFacts("app", "/opt/app"),
            50: ProcessFacts("otelcol", "/otelcol"),
            99: ProcessFacts("python3.11", "/usr/bin/python3.11"),
        }
        self.networks = {10: (b"\x7f\0\0\1", b"\x0a\0\0\5", b"\xac\x11\0\1"), 20: (b"\xac\x11\0\2",)}
        self.containers: dict[int, ContainerFacts] = {200: WEB, 400: POD}

    def host(self) -> HostFacts:
        """Return the machine."""
        return HERE

    def process(self, tgid: int, comm: bytes) -> ProcessFacts:
        """Return a process, else its comm."""
        return self.processes.get(tgid) or ProcessFacts(comm.decode())

    def container(self, cgroup_id: int, tgid: int) -> ContainerFacts | None:
        """Return a container."""
        assert tgid >= 0
        return self.containers.get(cgroup_id)

    def addresses(self, tgid: int) -> tuple[bytes, ...]:
        """Return the addresses of a process's network namespace."""
        return self.networks.get(tgid, ())


def edge(
    tgid: int, role: int, local: str, remote: str, port: int, *, cgroup_id: int = 1, netns: int = 1, comm: bytes = b"x"
) -> EdgeKey:
    """Return an edge with addresses as text."""
    return EdgeKey(comm, cgroup_id, tgid, netns, ip_address(local).packed, ip_address(remote).packed, port, role)


NGINX = edge(10, ROLE_SERVER, "127.0.0.1", "127.0.0.1", 80)
NODE = edge(20, ROLE_SERVER, "172.17.0.2", "172.17.0.1", 3000, cgroup_id=200, netns=2)
CURL = edge(30, ROLE_CLIENT, "127.0.0.1", "127.0.0.1", 80)


def enricher(**settings: object) -> Enricher:
    """Return an enricher of that machine."""
    return Enricher(replace(Settings(), **settings), Facts())  # type: ignore[arg-type]


def test_a_process_is_a_workload_named_by_its_executable() -> None:
    """Without a container the service is the executable, one instance per host."""
    assert enricher().workload(NGINX) == Workload(
        "nginx",
        None,
        "node-1/nginx",
        (
            ("host.name", "node-1"),
            ("process.executable.name", "nginx"),
            ("service.instance.id", "node-1/nginx"),
            ("service.name", "nginx"),
        ),
    )


def test_a_container_is_a_workload_named_by_its_name() -> None:
    """A container's name names the service, its id the instance."""
    assert enricher().workload(NODE) == Workload(
        "shop-web-1",
        None,
        WEB.id,
        (
            ("container.id", WEB.id),
            ("host.name", "node-1"),
            ("process.executable.name", "node"),
            ("service.instance.id", WEB.id),
            ("service.name", "shop-web-1"),
        ),
    )


def test_a_container_without_a_name_is_named_by_its_executable() -> None:
    """The executable is the next best name; the pod's UID is told."""
    found = enricher().workload(replace(NGINX, tgid=40, cgroup_id=400))
    assert (found.service_name, found.service_instance_id) == ("app", POD.id)
    assert dict(found.attributes)["k8s.pod.uid"] == POD.pod_uid


def test_a_process_of_which_nothing_is_known_is_an_unknown_service() -> None:
    """A socket without an owner has the name that the Resource conventions give."""
    found = enricher().workload(replace(NGINX, tgid=0, comm=b""))
    assert (found.service_name, found.service_instance_id) == ("unknown_service", "node-1/unknown_service")
    assert "process.executable.name" not in dict(found.attributes)


def test_resource_attributes_describe_the_place_and_never_a_foreign_service() -> None:
    """OTEL_RESOURCE_ATTRIBUTES is added to every workload, but for what only the agent is."""
    given = (
        ("deployment.environment.name", "test"),
        ("host.name", "rack-7"),
        ("k8s.node.name", "n7"),
        ("k8s.pod.name", "otel-ebpf-x"),
        ("process.pid", "1"),
        ("service.name", "otel-ebpf"),
        ("service.namespace", "monitoring"),
        ("container.id", "mine"),
    )
    found = enricher(resource_attributes=given, kube_cluster_name="blue").workload(NGINX)
    assert found.service_namespace is None
    assert dict(found.attributes) == {
        "deployment.environment.name": "test",
        "host.name": "rack-7",
        "k8s.cluster.name": "blue",
        "k8s.node.name": "n7",
        "process.executable.name": "nginx",
        "service.instance.id": "rack-7/nginx",
        "service.name": "nginx",
    }


def test_the_agent_has_a_resource_of_its_own() -> None:
    """OTEL_SERVICE_NAME and all of OTEL_RESOURCE_ATTRIBUTES are true of the agent."""
    given = (("service.namespace", "monitoring"), ("k8s.pod.name", "otel-ebpf-x"))
    found = enricher(service_name="watcher", resource_attributes=given).agent
    assert (found.service_name, found.service_namespace, found.service_instance_id) == (
        "watcher",
        "monitoring",
        "node-1",
    )
    assert dict(found.attributes) == {
        "host.name": "node-1",
        "k8s.pod.name": "otel-ebpf-x",
        "service.instance.id": "node-1",
        "service.name": "watcher",
        "service.namespace": "monitoring",
        "service.version": version("otel-ebpf"),
    }


def test_processes_of_one_executable_are_one_workload() -> None:
    """Workers of one server do not make Resources of their own; the same object comes back."""
    found = enricher()
    assert found.workload(NGINX) is found.workload(replace(NGINX, comm=b"worker", local_address=b"\x0a\0\0\1"))


def test_workloads_are_bounded_and_old_ones_make_room(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Processes that rename themselves without end become one service without a name, said once."""
    monkeypatch.setattr(enricher_module, "MAX_WORKLOADS", 3)
    found = enricher()
    names = [found.workload(replace(NGINX, tgid=1000, comm=b"p%d" % number)).service_name for number in range(6)]
    assert names == ["p0", "p1", "p2", "unknown_service", "unknown_service", "unknown_service"]
    assert found.overflows == {"workload": 3, "route": 0}
    with caplog.at_level(logging.WARNING):
        found.age()
        found.age()
    assert [record.message for record in caplog.records] == [
        "the workloads of this machine are too many to tell apart: new ones go under a collective name"
    ]
    assert found.workload(replace(NGINX, tgid=1000, comm=b"p9")).service_name == "p9"


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (CURL, Peer("loopback", "nginx", None, None)),
        (replace(CURL, server_port=81), Peer("loopback", None, None, None)),
        (replace(CURL, netns=2), Peer("loopback", None, None, None)),
        (edge(30, ROLE_CLIENT, "172.17.0.1", "172.17.0.2", 3000), Peer("node", "shop-web-1", None, None)),
        (edge(30, ROLE_CLIENT, "172.17.0.1", "172.17.0.2", 3001), Peer("node", None, None, None)),
        (edge(30, ROLE_CLIENT, "172.17.0.1", "10.0.0.5", 9), Peer("loopback", None, None, None)),
        (edge(20, ROLE_CLIENT, "172.17.0.2", "10.0.0.5", 9, netns=2), Peer("node", None, None, None)),
        (edge(30, ROLE_CLIENT, "172.17.0.2", "172.17.0.2", 3000), Peer("loopback", "shop-web-1", None, None)),
        (edge(30, ROLE_CLIENT, "10.0.0.5", "93.184.216.34", 443), Peer("external", None, None, None)),
        (edge(30, ROLE_CLIENT, "10.0.0.5", "0.0.0.0", 443), Peer("unknown", None, None, None)),  # noqa: S104
        (edge(30, ROLE_CLIENT, "::1", "::1", 80), Peer("loopback", None, None, None)),
    ],
)
def test_a_client_sees_who_serves_on_this_node(client: EdgeKey, expected: Peer) -> None:
    """The name comes from the server's own edges: by address and port, on loopback within one network namespace."""
    found = enricher()
    found.workload(NGINX)
    found.workload(NODE)
    assert found.peer(client) == expected


def test_a_server_does_not_name_its_clients() -> None:
    """An address tells a server where a client is, not who it is."""
    found = enricher()
    found.workload(CURL)
    assert found.peer(NGINX) == Peer("loopback", None, None, None)
    assert found.peer(replace(NODE, remote_address=b"\x0a\1\2\3")) == Peer("external", None, None, None)


def test_a_listener_names_the_server_before_its_first_request() -> None:
    """What listened when the agent came is known; a wildcard serves every loopback address of its namespace."""
    found = enricher()
    found.learn_listener(Listener(netns=1, port=80, tgid=10, address=b"\0" * 16))
    assert found.peer(CURL).name == "nginx"
    assert (
        found.peer(replace(CURL, local_address=b"\0" * 15 + b"\1", remote_address=b"\0" * 15 + b"\1")).name == "nginx"
    )
    assert found.peer(replace(CURL, netns=2)).name is None
    found.learn_listener(Listener(netns=1, port=81, tgid=40, address=b"\x7f\0\0\2"))
    assert found.peer(replace(CURL, remote_address=b"\x7f\0\0\2", server_port=81)).name == "app"
    assert found.peer(replace(CURL, server_port=81)).name is None


def test_a_wildcard_listener_serves_every_address_of_its_namespace() -> None:
    """A container's server is named from the first connection of a client elsewhere on the node."""
    found = enricher()
    found.learn_listener(Listener(netns=2, port=3000, tgid=20, address=b"\0" * 4))
    client = edge(30, ROLE_CLIENT, "172.17.0.1", "172.17.0.2", 3000)
    assert found.peer(client) == Peer("node", "node", None, None)
    assert found.peer(replace(client, server_port=3001)) == Peer("node", None, None, None)


def test_an_address_of_several_namespaces_names_nobody() -> None:
    """Bridges may give the same address twice: it is on this node, but whose it is cannot be told."""
    peers = Peers("off")
    workload = enricher().workload(NGINX)
    peers.learn_server(2, b"\0" * 4, 80, workload)
    peers.learn_namespace(2, [b"\x0a\0\x02\x64"])
    client = edge(30, ROLE_CLIENT, "10.0.0.5", "10.0.2.100", 80)
    assert peers.peer(client) == Peer("node", "nginx", None, None)
    peers.learn_namespace(3, [b"\x0a\0\x02\x64"])
    assert peers.peer(client) == Peer("node", None, None, None)


def test_addresses_are_asked_for_anew_and_forgotten_late() -> None:
    """An interface that goes away is forgotten after two periods; one that stays is told again by its next edge."""
    found = enricher()
    found.workload(NGINX)
    client = edge(20, ROLE_CLIENT, "172.17.0.2", "10.0.0.5", 9, netns=2)
    found.age()
    assert found.peer(client).type == "node"
    found.workload(NGINX)
    found.age()
    assert found.peer(client).type == "node"
    found.age()
    assert found.peer(client).type == "external"


def test_the_latest_server_of_a_port_is_the_one() -> None:
    """A port is served by another program after a change; new edges say so."""
    found = enricher()
    found.workload(NGINX)
    found.workload(replace(NGINX, tgid=40))
    assert found.peer(CURL).name == "app"


@pytest.mark.parametrize(
    ("addresses", "remote", "shown"),
    [
        ("off", "10.1.2.3", None),
        ("private", "10.1.2.3", "10.1.2.3"),
        ("private", "100.64.0.1", "100.64.0.1"),
        ("private", "fd00::17", "fd00::17"),
        ("private", "93.184.216.34", None),
        ("private", "2606:2800:220::1", None),
        ("all", "93.184.216.34", "93.184.216.34"),
        ("all", "127.0.0.1", None),
    ],
)
def test_addresses_are_told_only_as_far_as_allowed(addresses: str, remote: str, shown: str | None) -> None:
    """OTEL_EBPF_PEER_ADDRESSES decides; loopback needs no address."""
    local = "2001:db8::5" if ":" in remote else "10.0.0.5"
    assert enricher(peer_addresses=addresses).peer(edge(30, ROLE_CLIENT, local, remote, 443)).address == shown


def test_addresses_are_told_apart() -> None:
    """Loopback is 127.0.0.0/8 and ::1; private is what stands for nobody on the Internet."""
    assert all(is_loopback(ip_address(text).packed) for text in ("127.0.0.1", "127.255.0.9", "::1"))
    assert not any(is_loopback(ip_address(text).packed) for text in ("128.0.0.1", "::2", "::"))
    assert all(is_private(ip_address(text).packed) for text in ("192.168.1.1", "172.16.0.1", "fe80::1", "169.254.1.1"))
    assert not is_private(ip_address("8.8.8.8").packed)


def test_servers_learnt_are_bounded() -> None:
    """A port scan of a process that listens everywhere does not grow without end."""
    peers = Peers("off")
    workload = enricher().workload(NGINX)
    for number in range(MAX_SERVERS + 100):
        peers.learn_server(1, number.to_bytes(4, "big"), 80, workload)
    assert len(peers._servers) == MAX_SERVERS


def test_everything_is_watched_but_the_agent() -> None:
    """Without a selector only the agent's own connections are left out."""
    found = enricher()
    assert found.watched(NGINX)
    assert found.watched(CURL)
    assert not found.watched(replace(CURL, tgid=99))


def test_a_port_selects_the_process_that_serves_on_it_with_its_client_side() -> None:
    """OTEL_EBPF_OPEN_PORT: the server's own requests to others are watched too, other processes are not."""
    found = enricher(open_ports=((3000, 3999),))
    upstream = edge(20, ROLE_CLIENT, "172.17.0.2", "10.0.0.9", 5432, cgroup_id=200, netns=2)
    assert not found.watched(upstream)
    assert found.watched(NODE)
    assert found.watched(upstream)
    assert not found.watched(NGINX)
    found.learn_listener(Listener(netns=1, port=3999, tgid=10, address=b""))
    assert found.watched(replace(CURL, tgid=10))


def test_globs_select_by_the_path_of_the_executable() -> None:
    """OTEL_EBPF_AUTO_TARGET_EXE matches the whole path; a process gone too soon counts by its name."""
    found = enricher(target_exes=("*/nginx", "/usr/{local,share}/bin/*", "*/gone"))
    assert [found.watched(one) for one in (NGINX, NODE, CURL)] == [True, True, False]
    assert found.watched(replace(CURL, tgid=1234, comm=b"gone"))


def test_kinds_of_selectors_must_all_hold() -> None:
    """Of one kind any one suffices, several kinds narrow down."""
    found = enricher(target_pids=(10, 20), target_exes=("*/node", "*/curl"))
    assert [found.watched(one) for one in (NGINX, NODE, CURL)] == [False, True, False]


@pytest.mark.parametrize("endpoint", ["http://localhost:4317", "http://127.0.0.1:4317"])
def test_the_collector_beside_the_agent_is_not_watched(endpoint: str) -> None:
    """Who serves at the endpoint is left out, with its own connections onwards; others who send to it are watched."""
    found = enricher(metrics_exporter="otlp", otlp_endpoint=endpoint, otlp_protocol="grpc")
    onwards = edge(50, ROLE_CLIENT, "10.0.0.5", "93.184.216.34", 443)
    sender = edge(40, ROLE_CLIENT, "127.0.0.1", "127.0.0.1", 4317)
    assert found.watched(onwards)
    assert not found.watched(edge(50, ROLE_SERVER, "127.0.0.1", "127.0.0.1", 4317))
    assert not found.watched(onwards)
    assert found.watched(sender)


def test_the_collector_behind_a_name_is_found_where_the_agent_connects() -> None:
    """No name is looked up: the agent's own connection tells the address."""
    found = enricher(logs_exporter="otlp", otlp_endpoint="http://collector.example:4318")
    serving = edge(50, ROLE_SERVER, "172.17.0.9", "172.17.0.1", 4318, netns=3)
    assert found.watched(serving)
    assert not found.watched(edge(99, ROLE_CLIENT, "172.17.0.1", "172.17.0.9", 4318))
    assert not found.watched(serving)


def test_a_server_on_the_same_port_elsewhere_is_no_collector() -> None:
    """Loopback of another network namespace, or another address, is somebody else."""
    found = enricher(metrics_exporter="otlp", otlp_endpoint="http://localhost:4317", otlp_protocol="grpc")
    assert found.watched(edge(50, ROLE_SERVER, "127.0.0.1", "127.0.0.1", 4317, netns=7))
    assert found.watched(edge(50, ROLE_SERVER, "10.0.0.5", "10.0.0.6", 4317))


def test_routes_are_kept_per_service() -> None:
    """One service's routes do not use up another's; the patterns hold for all."""
    found = enricher(route_limit=1, routes=("/fixed/*",))
    nginx, node = found.workload(NGINX), found.workload(NODE)
    assert found.route(nginx, b"GET", b"/a/1") == "/a/{id}"
    assert found.route(nginx, b"GET", b"/b/1") == "/*"
    assert found.route(node, b"GET", b"/b/1") == "/b/{id}"
    assert found.route(nginx, b"CONNECT", b"example.org:443") == "*"
    assert found.overflows == {"workload": 0, "route": 1}


def test_services_with_routes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services beyond the limit share one book."""
    monkeypatch.setattr(enricher_module, "MAX_SERVICES", 2)
    found = enricher(route_limit=1)
    services = [found.workload(replace(NGINX, tgid=1000, comm=b"p%d" % number)) for number in range(4)]
    assert [found.route(one, b"GET", f"/{one.service_name}".encode()) for one in services] == [
        "/p0",
        "/p1",
        "/p2",
        "/*",
    ]


def test_a_workload_that_sends_spans_is_known_as_instrumented() -> None:
    """A request to an OTLP receiver's trace path shows it; serving such a path does not."""
    found = enricher()
    curl, nginx = found.workload(CURL), found.workload(NGINX)
    found.note_request(CURL, curl, b"/v1/traces")
    found.note_request(NGINX, nginx, b"/v1/traces")
    found.note_request(NGINX, nginx, b"/v1/metrics")
    assert (found.instrumented(curl), found.instrumented(nginx)) == (True, False)


def test_a_recording_brings_its_facts_along() -> None:
    """What a live machine answered, written as JSON and read again, names the same workloads elsewhere."""
    log = FactLog(Facts())
    first = Enricher(Settings(), log)
    told = [first.workload(one) for one in (NGINX, NODE, CURL, replace(CURL, tgid=7, comm=b"gone"))]
    written = json.loads(json.dumps(log.as_json()))
    second = Enricher(Settings(), RecordedFacts(written))
    assert [second.workload(one) for one in (NGINX, NODE, CURL, replace(CURL, tgid=7, comm=b"gone"))] == told
    assert second.workload(replace(CURL, tgid=8, comm=b"new")).service_name == "new"


def test_a_recorded_process_keeps_its_first_name_and_a_container_is_asked_for_until_known() -> None:
    """A container may be known a moment later than its first flow; a process only gets less known with time."""
    facts = Facts()
    log = FactLog(facts)
    assert log.process(10, b"nginx").name == "nginx"
    assert log.container(500, 10) is None
    del facts.processes[10]
    facts.containers[500] = WEB
    assert log.process(10, b"nginx").name == "nginx"
    assert log.container(500, 10) == WEB
    assert log.as_json()["containers"] == [
        [500, 10, {"id": WEB.id, "runtime": "docker", "pod_uid": None, "name": WEB.name}]
    ]


@pytest.mark.parametrize("written", [{}, {"host": {}}, {"host": {"name": "x"}, "processes": [[1]], "containers": []}])
def test_facts_that_are_not_facts_are_refused(written: dict[str, object]) -> None:
    """A damaged recording is an error of a known kind."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        RecordedFacts(written)
