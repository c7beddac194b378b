"""A known workload: a fixed number of requests to nginx whose every property is known before the first is sent.

In: host and port of :func:`tests.support.servers.nginx`. Out: exactly what was exchanged. Runs in a process of its own
as well: ``python -m tests.support.workload HOST PORT [REQUESTS [SEED]]``.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.clients import Connection, Exchange, Request, Response, once
from tests.support.servers import API_BODY, FILE_TIME, REFUSAL_BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.network import Namespace

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_PER_CONNECTION: Final = 50
_LONGEST_BATCH: Final = 9
_PAUSE_S: Final = 0.02  # between pipelined batches, which bring a megabyte at once


@dataclass(frozen=True, slots=True)
class Planned:
    """A request and the answer that it must get."""

    request: Request
    exchange: Exchange


class WrongAnswerError(Exception):
    """A server did not answer as planned: the workload is not the known one."""


@dataclass(frozen=True, slots=True)
class KnownWorkload:
    """Two fifths over keep-alive connections, one fifth with a connection each, two fifths pipelined.

    The same seed gives the same requests in the same order.
    """

    requests: int = 1000
    seed: int = 23

    def expected(self) -> Counter[Exchange]:
        """Every exchange, with how often it happens."""
        return Counter(planned.exchange for planned in self._plan())

    def run(self, host: str, port: int) -> Counter[Exchange]:
        """Send everything, one request after the other; return what was exchanged.

        Raises WrongAnswerError when an answer is not the planned one.
        """
        plan = self._plan()
        pipelined, single = self.requests * 2 // 5, self.requests // 5
        _run_pipelined(host, port, plan[:pipelined])
        for planned in plan[pipelined : pipelined + single]:
            _check(planned, once(host, port, planned.request))
        _run_kept_alive(host, port, plan[pipelined + single :])
        return self.expected()

    def run_apart(self, host: str, port: int, namespace: Namespace | None = None) -> Counter[Exchange]:
        """Like :meth:`run`, in a process of its own, which may be in another network namespace."""
        command = [sys.executable, "-m", __name__, host, str(port), str(self.requests), str(self.seed)]
        full = namespace.command(command) if namespace else command
        subprocess.run(full, cwd=_REPOSITORY, check=True, timeout=300)
        return self.expected()

    def connections(self) -> int:
        """How many connections it makes."""
        pipelined, single = self.requests * 2 // 5, self.requests // 5
        kept = self.requests - pipelined - single
        return sum(-(-part // _PER_CONNECTION) for part in (pipelined, kept)) + single

    def _plan(self) -> list[Planned]:
        chance = random.Random(self.seed)  # noqa: S311  # repeatable, not secret
        makers, weights = zip(*_MIX, strict=True)
        return [make(chance) for make in chance.choices(makers, weights, k=self.requests)]


def _run_pipelined(host: str, port: int, plan: list[Planned]) -> None:
    for start in range(0, len(plan), _PER_CONNECTION):
        rest = plan[start : start + _PER_CONNECTION]
        with Connection(host, port) as connection:
            for batch in _batches(rest):
                time.sleep(_PAUSE_S)
                answers = connection.pipeline([planned.request for planned in batch])
                for planned, answer in zip(batch, answers, strict=True):
                    _check(planned, answer)


def _batches(plan: list[Planned]) -> Iterator[list[Planned]]:
    """Batches of 2, 3, … requests, then from the start again; a POST ends its batch (RFC 9112, 9.3.2)."""
    batch: list[Planned] = []
    size = 2
    for planned in plan:
        batch.append(planned)
        if len(batch) >= size or planned.request.method == b"POST":
            yield batch
            batch, size = [], size + 1 if size < _LONGEST_BATCH else 2
    if batch:
        yield batch


def _run_kept_alive(host: str, port: int, plan: list[Planned]) -> None:
    for start in range(0, len(plan), _PER_CONNECTION):
        with Connection(host, port) as connection:
            for planned in plan[start : start + _PER_CONNECTION]:
                _check(planned, connection.exchange(planned.request))


def _check(planned: Planned, answer: Response) -> None:
    got = planned.request.answered(answer.status, len(answer.body))
    if got != planned.exchange:
        raise WrongAnswerError(f"planned {planned.exchange}, got {got}")


def _plan(request: Request, status: int, response_body_bytes: int) -> Planned:
    return Planned(request, request.answered(status, response_body_bytes))


def _file(chance: random.Random) -> Planned:
    size = chance.choice((0, 1, 1024, 16384, 65537))
    return _plan(Request(b"GET", b"/files/%d" % size), 200, size)


def _big_file(_: random.Random) -> Planned:
    return _plan(Request(b"GET", b"/files/1048576"), 200, 1048576)


def _head(chance: random.Random) -> Planned:
    return _plan(Request(b"HEAD", b"/files/%d" % chance.choice((1024, 65537))), 200, 0)


def _unchanged(_: random.Random) -> Planned:
    return _plan(Request(b"GET", b"/files/16384", ((b"If-Modified-Since", FILE_TIME),)), 304, 0)


def _api(chance: random.Random) -> Planned:
    target = b"/api/users/%d/orders?page=%d" % (chance.randrange(1, 6), chance.randrange(100))
    headers = ((b"User-Agent", b"known-workload"), (b"Accept", b"application/json"))
    return _plan(Request(b"GET", target, headers), 200, len(API_BODY))


def _order(chance: random.Random) -> Planned:
    body = b"o" * chance.choice((1, 100, 900))
    return _plan(Request(b"POST", b"/api/orders", (), body), 200, len(API_BODY))


def _upload(chance: random.Random) -> Planned:
    body = b"u" * chance.choice((5000, 70000))
    return _plan(Request(b"POST", b"/upload/photo", (), body), 200, len(b"stored"))


def _put(chance: random.Random) -> Planned:
    request = Request(b"PUT", b"/created/%d" % chance.randrange(3), (), b"p" * 300)
    return _plan(request, 201, len(b"created"))


def _delete(chance: random.Random) -> Planned:
    return _plan(Request(b"DELETE", b"/empty/%d" % chance.randrange(3)), 204, 0)


def _options(_: random.Random) -> Planned:
    return _plan(Request(b"OPTIONS", b"/api/orders"), 200, len(API_BODY))


def _refused(chance: random.Random) -> Planned:
    status = chance.choice((403, 404, 429, 500, 503))
    return _plan(Request(b"GET", b"/status/%d" % status), status, len(REFUSAL_BODY))


_MIX: Final[tuple[tuple[Callable[[random.Random], Planned], int], ...]] = (
    (_file, 25),
    (_big_file, 1),
    (_head, 6),
    (_unchanged, 4),
    (_api, 30),
    (_order, 10),
    (_upload, 5),
    (_put, 4),
    (_delete, 4),
    (_options, 2),
    (_refused, 9),
)


def main(arguments: list[str]) -> None:
    """Run the workload that the arguments describe."""
    host, port, *numbers = arguments
    KnownWorkload(*map(int, numbers)).run(host, int(port))


if __name__ == "__main__":
    main(sys.argv[1:])
