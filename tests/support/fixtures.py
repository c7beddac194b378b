"""Fixtures for every ring of tests; ``tests/conftest.py`` hands them to pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.collector import Collector, collector_binary
from tests.support.network import Namespace, veth_pair
from tests.support.servers import Server, nginx, node, python_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def collector_program() -> Path:
    """The Collector's binary, built once."""
    return collector_binary()


@pytest.fixture
def collector(collector_program: Path, tmp_path: Path) -> Iterator[Collector]:
    """A running Collector of the test's own."""
    with Collector(collector_program, tmp_path / "collector") as running:
        yield running


@pytest.fixture
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    """Two network namespaces joined by a veth pair."""
    with veth_pair() as pair:
        yield pair


@pytest.fixture
def nginx_server(tmp_path: Path) -> Iterator[Server]:
    """Nginx on loopback."""
    with nginx(tmp_path / "nginx") as server:
        yield server


@pytest.fixture
def node_server(tmp_path: Path) -> Iterator[Server]:
    """Node's http server on loopback."""
    with node(tmp_path / "node") as server:
        yield server


@pytest.fixture
def python_http_server(tmp_path: Path) -> Iterator[Server]:
    """Python's http.server on loopback, HTTP/1.1."""
    with python_server(tmp_path / "python") as server:
        yield server
