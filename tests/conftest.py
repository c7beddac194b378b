"""Fixtures that every ring of tests may use."""

from tests.support.fixtures import (
    collector,
    collector_program,
    namespaces,
    nginx_server,
    node_server,
    python_http_server,
)

__all__ = ["collector", "collector_program", "namespaces", "nginx_server", "node_server", "python_http_server"]
