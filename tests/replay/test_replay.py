"""Replay: a recording gives the telemetry of its traffic, on any machine, to anybody, every time the same."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.errors import RecordingError
from otel_ebpf.recording import MAGIC, Recording, RecordingWriter, read
from otel_ebpf.records import Batch
from tests.data.make import HOST_NAME, REQUESTS
from tests.support.agent import EVERYTHING, agent_command
from tests.support.habits import SERVERS, expected
from tests.support.otlp import Telemetry
from tests.support.workload import KnownWorkload

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA: Final = Path(__file__).parents[1] / "data"
KNOWN: Final = DATA / "known.rec"
HABITS: Final = DATA / "habits.rec"
# Without capabilities, and with no way to get any; a user who has none to begin with need not give them up.
UNPRIVILEGED: Final = (
    ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] if not os.geteuid() else []
)

WRONG: Final = (
    "empty",
    "text",
    "older version",
    "no header",
    "other layout",
    "bad salt",
    "time before the epoch",
    "damaged frame",
    "endless frame",
    "facts of something else",
)


def replay(path: Path, out: Path, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run ``otel-ebpf replay`` with everything going to *out*."""
    environment = {**os.environ, **EVERYTHING, "OTEL_EBPF_OTLP_FILE": str(out)}
    command = [*prefix, *agent_command(), "replay", path]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Telemetry:
    """What the known recording tells a user without privileges."""
    out = tmp_path_factory.mktemp("replay") / "out.jsonl"
    done = replay(KNOWN, out, UNPRIVILEGED)
    assert (done.returncode, done.stderr) == (0, "")
    return Telemetry.of_file(out)


@pytest.mark.parametrize("role", ["client", "server"])
def test_recorded_exchanges_are_told(told: Telemetry, role: str) -> None:
    """Both ends of every recorded exchange are there, and nothing else."""
    assert told.exchange_counts(role) == KnownWorkload(REQUESTS).expected()
    assert told.count(f"http.{role}.request.duration") == REQUESTS


def test_every_exchange_has_its_span(told: Telemetry) -> None:
    """Log records and spans name each other."""
    assert {(log.trace_id, log.span_id) for log in told.logs} == {(span.trace_id, span.span_id) for span in told.spans}
    assert len(told.spans) == 2 * REQUESTS


def test_workloads_keep_their_names(told: Telemetry) -> None:
    """Who did it is what the recording machine said, not what this one would."""
    names = {(log.attributes["ebpf.role"], log.resource["service.name"]) for log in told.logs}
    assert names == {("server", "nginx"), ("client", "python3.11")}
    assert {log.resource["host.name"] for log in told.logs} == {HOST_NAME}


@pytest.mark.parametrize("role", ["client", "server"])
def test_recorded_habits_are_told(tmp_path: Path, role: str) -> None:
    """Real servers and clients with all their habits, recorded, tell exactly the exchanges that they had."""
    assert replay(HABITS, tmp_path / "out.jsonl").returncode == 0
    told = Telemetry.of_file(tmp_path / "out.jsonl")
    assert told.exchange_counts(role) == sum((expected(server) for server in SERVERS), Counter())


@pytest.mark.parametrize("path", [KNOWN, HABITS])
def test_replay_is_the_same_every_time(tmp_path: Path, path: Path) -> None:
    """Two replays write the same bytes."""
    outs = [tmp_path / name for name in ("one.jsonl", "two.jsonl")]
    assert [replay(path, out).returncode for out in outs] == [0, 0]
    assert outs[0].read_bytes() == outs[1].read_bytes() != b""


def test_half_a_recording_is_told_as_far_as_it_goes(tmp_path: Path) -> None:
    """A recorder that was killed leaves a file whose whole frames are told, and the user is warned."""
    cut = tmp_path / "cut.rec"
    cut.write_bytes(KNOWN.read_bytes()[: KNOWN.stat().st_size * 2 // 3])
    done = replay(cut, tmp_path / "out.jsonl")
    assert done.returncode == 0
    assert "was cut short" in done.stderr
    assert 0 < len(Telemetry.of_file(tmp_path / "out.jsonl").logs) < 2 * REQUESTS


def _written(path: Path, batch: Batch, facts: dict[str, object]) -> bytes:
    with path.open("wb") as file:
        writer = RecordingWriter(file, Recording(1, 1, b"s" * 16))
        writer.batch(batch)
        writer.facts(facts)
    return path.read_bytes()


def _foreign(folder: Path) -> dict[str, bytes]:
    """Files that are no recordings of this version, by what is wrong with them."""
    good = KNOWN.read_bytes()
    head_end = good.index(b"\n", len(MAGIC)) + 1
    return {
        "empty": b"",
        "text": b"GET / HTTP/1.1\r\n\r\n",
        "older version": good.replace(b"recording 1", b"recording 0", 1),
        "no header": MAGIC,
        "other layout": good.replace(b'"layout": ', b'"layout": 1', 1),
        "bad salt": good.replace(b'"salt": "', b'"salt": "00', 1),
        "time before the epoch": good.replace(b'"offset_ns": ', b'"offset_ns": -', 1),
        "damaged frame": good[: head_end + 200] + bytes(64) + good[head_end + 264 :],
        "endless frame": good[:head_end] + b"B\xff\xff\xff\xff",
        "facts of something else": _written(folder / "facts.rec", Batch(1, b""), {"host": {}}),
    }


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_recording_is_refused(tmp_path: Path, name: str) -> None:
    """One sentence that names the file, exit code 2."""
    path = tmp_path / "x.rec"
    path.write_bytes(_foreign(tmp_path)[name])
    done = replay(path, tmp_path / "out.jsonl")
    assert done.returncode == 2
    assert done.stderr.startswith(f"otel-ebpf: {path}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("path", "reason"), [("/nowhere/x.rec", "No such file or directory"), ("/", "Is a directory")])
def test_what_cannot_be_read_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    """The system's reason stands in the sentence, exit code 2."""
    done = replay(Path(path), tmp_path / "out.jsonl")
    assert (done.returncode, done.stderr) == (2, f"otel-ebpf: {path}: {reason}\n")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_noticed_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A byte that has changed, or an end that is missing: the file is read or refused, nothing else happens."""
    whole = bytearray(KNOWN.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(1, len(whole))) :]
    path = tmp_path_factory.mktemp("damage") / "x.rec"
    path.write_bytes(whole)
    with suppress(RecordingError):
        recording, batches = read(path)
        assert len(recording.salt) == 16
        assert all(batch.time_ns for batch in batches)
