"""How the agent begins and ends, and what it leaves alone while it runs."""

from __future__ import annotations

import hashlib
import random
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.kernel.kernel_objects import calls, held_by, held_by_anybody, left, objects
from tests.kernel.watching import ANSWER, Told, Watched, both, watching
from tests.support.agent import agent_command, running_agent
from tests.support.clients import Request, once
from tests.support.processes import Child
from tests.support.servers import Server, scripted

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from tests.support.collector import Collector
    from tests.support.otlp import Telemetry

_STEPS: Final[list[list[Any]]] = [["head"], ["send", ANSWER], ["drain"]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that answers one request per connection."""
    with scripted(tmp_path / "server", _STEPS) as found:
        yield found


def _ask(server: Server, path: str, times: int = 1) -> None:
    for _ in range(times):
        assert once(server.host, server.port, Request(b"GET", path.encode())).status == 200


def _expect(watched: Watched, server: Server, told: Counter[Told]) -> None:
    watched.wait(lambda: watched.exchanges(server.port) == told)
    assert watched.exchanges(server.port) == told


def _paths(telemetry: Telemetry, server: Server) -> dict[str, list[str]]:
    """Paths asked of a server, as each role tells them."""
    ports = {"client": "network.peer.port", "server": "server.port"}
    return {
        role: [str(log.attributes["url.path"]) for log in telemetry.exchanges(role, **{port: server.port})]
        for role, port in ports.items()
    }


# -- beginning and end ------------------------------------------------------------------------------------------------


def test_nothing_is_left_after_sigkill(tmp_path: Path, server: Server) -> None:
    """An agent that is killed leaves no program, map or link behind, and the next one captures as ever."""
    before = objects()
    with running_agent(tmp_path / "first") as first:
        mine = held_by(str(first.child.pid))
        kinds = {kind for kind, _ in mine}
        first.child.send_signal(signal.SIGKILL)
        assert first.child.wait(5) == -signal.SIGKILL
    assert kinds == {"program", "map", "link"}
    assert left(mine) == set()
    ownerless = objects() - before - held_by_anybody()
    assert left(ownerless) == set()
    with watching(tmp_path / "second") as second:
        _ask(server, "/again")
        _expect(second, server, both("GET", "/again", 200, 0, 2))
        second.finish()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(tmp_path: Path, server: Server, number: signal.Signals) -> None:
    """The agent ends within two seconds of a signal, with 0, having sent everything, and leaves nothing attached."""
    with running_agent(tmp_path / "agent") as agent:
        mine = held_by(str(agent.child.pid))
        _ask(server, "/last", 20)
        began = time.monotonic()
        agent.child.send_signal(number)
        assert agent.child.wait(10) == 0, agent.child.output()
        took_s = time.monotonic() - began
    assert took_s < 2
    assert "Traceback" not in agent.child.output()
    assert _paths(agent.telemetry(), server) == {"client": ["/last"] * 20, "server": ["/last"] * 20}
    assert len([span for span in agent.telemetry().spans if span.attributes.get("url.path") == "/last"]) == 40
    assert left(mine) == set()


def test_a_signal_while_it_loads_ends_it(tmp_path: Path) -> None:
    """A signal before the agent captures ends it at once as well, without a traceback and with nothing attached."""
    environment = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none"}
    before = objects()
    with Child([*agent_command(), "run"], log=tmp_path / "agent.log", environment=environment) as child:
        time.sleep(0.8)
        child.send_signal(signal.SIGTERM)
        child.wait(10)
        assert "Traceback" not in child.output()
    assert left(objects() - before - held_by_anybody()) == set()


def test_two_agents_at_once(tmp_path: Path, server: Server) -> None:
    """Two agents on one machine see the same exchanges, each once, and end without harm to each other."""
    with watching(tmp_path / "one") as one, watching(tmp_path / "two") as two:
        _ask(server, "/both", 10)
        for watched in (one, two):
            _expect(watched, server, both("GET", "/both", 200, 0, 2, times=10))
        one.finish()
        _ask(server, "/rest", 10)
        rest = both("GET", "/rest", 200, 0, 2, times=10)
        _expect(two, server, both("GET", "/both", 200, 0, 2, times=10) + rest)
        two.finish()


# -- it only watches --------------------------------------------------------------------------------------------------

_READS: Final = frozenset(
    {
        "bpf_get_current_cgroup_id",
        "bpf_get_current_pid_tgid",
        "bpf_get_current_task",
        "bpf_get_current_task_btf",
        "bpf_get_smp_processor_id",
        "bpf_ktime_get_ns",
        "bpf_probe_read_kernel",
        "bpf_probe_read_user",
        "bpf_ringbuf_discard",
        "bpf_ringbuf_output",
        "bpf_ringbuf_query",
        "bpf_ringbuf_reserve",
        "bpf_ringbuf_submit",
        "bpf_seq_write",
        "bpf_skc_to_tcp_sock",
        "bpf_task_pt_regs",
    }
)
"""What the programs call: helpers that read, and those that write to the agent's own ring and iterators."""
_OWN_MAPS: Final = re.compile(r"map_(lookup|update|delete)_elem$")


def test_no_loaded_program_can_change_anything(tmp_path: Path) -> None:
    """The programs call what reads, and what writes to the agent's own maps: nothing that could touch others."""
    with running_agent(tmp_path) as agent:
        programs = sorted(number for kind, number in held_by(str(agent.child.pid)) if kind == "program")
        called = set().union(*(calls(number) for number in programs))
    assert len(programs) >= 8
    assert "bpf_ringbuf_output" in called
    assert {name for name in called if not _OWN_MAPS.search(name)} <= _READS


def test_it_opens_no_memory_of_others(tmp_path: Path, server: Server) -> None:
    """The agent has no descriptor of another process's memory, and no raw or packet socket."""
    with running_agent(tmp_path) as agent:
        _ask(server, "/x", 5)
        time.sleep(0.5)
        folder = Path("/proc", str(agent.child.pid), "fd")
        targets = [str(link.readlink()) for link in folder.iterdir()]
        sockets = {target[8:-1] for target in targets if target.startswith("socket:[")}
        packet = Path("/proc", str(agent.child.pid), "net/packet").read_text(encoding="ascii").split()
        raw = Path("/proc", str(agent.child.pid), "net/raw").read_text(encoding="ascii").split()
    assert not [target for target in targets if re.fullmatch(r"/proc/\d+/(mem|task/.*)", target)]
    assert not sockets & {*packet, *raw}


def _data(size: int) -> bytes:
    """A request, and random bytes behind it."""
    return b"GET / HTTP/1.1\r\n\r\n" + random.Random(23).randbytes(size - 18)  # noqa: S311  # repeatable, not secret


def _transfer(size: int) -> tuple[str, str, tuple[int, ...]]:
    """Digests of what each end received of random bytes in both directions, and what the sockets are like after."""
    data = _data(size)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    received: dict[str, str] = {}

    def read(name: str, end: socket.socket) -> None:
        digest, left = hashlib.sha256(), size
        while left:
            part = end.recv(min(left, 65536))
            digest.update(part)
            left -= len(part)
        received[name] = digest.hexdigest()

    with client, server:
        readers = [threading.Thread(target=read, args=pair) for pair in (("client", client), ("server", server))]
        writers = [threading.Thread(target=end.sendall, args=(data,)) for end in (client, server)]
        for thread in (*readers, *writers):
            thread.start()
        for thread in (*readers, *writers):
            thread.join(30)
        options = tuple(
            end.getsockopt(level, option)
            for end in (client, server)
            for level, option in (
                (socket.SOL_SOCKET, socket.SO_ERROR),
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                (socket.SOL_SOCKET, socket.SO_MARK),
                (socket.SOL_SOCKET, socket.SO_PRIORITY),
                (socket.IPPROTO_TCP, socket.TCP_NODELAY),
                (socket.IPPROTO_TCP, socket.TCP_MAXSEG),
                (socket.IPPROTO_TCP, socket.TCP_QUICKACK),
            )
        )
    return received["client"], received["server"], options


def test_what_is_transferred_is_the_same_with_the_agent(tmp_path: Path) -> None:
    """Every byte arrives unchanged in both directions, and the sockets' options are the same, agent or not."""
    without = _transfer(8 << 20)
    with running_agent(tmp_path):
        watched = _transfer(8 << 20)
    assert watched == without
    assert watched[0] == watched[1] == hashlib.sha256(_data(8 << 20)).hexdigest()


def test_own_traffic_is_not_watched(tmp_path: Path, collector: Collector, server: Server) -> None:
    """Neither the agent's exports nor the Collector that takes them are told of, while everybody else is."""
    endpoint = {
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
    }
    with running_agent(tmp_path / "agent", endpoint) as agent:
        for _ in range(5):
            _ask(server, "/other")
            time.sleep(0.5)
        assert agent.stop() == 0
    collector.stop()
    telemetry = collector.telemetry()
    assert _paths(telemetry, server) == {"client": ["/other"] * 5, "server": ["/other"] * 5}
    ports = {collector.http_port, collector.grpc_port}
    for row in (*telemetry.logs, *telemetry.spans, *telemetry.points):
        assert not ports & {row.attributes.get("server.port"), row.attributes.get("network.peer.port")}
