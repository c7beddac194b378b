"""Fixtures that every ring of tests may use."""

import pytest

pytest.register_assert_rewrite("tests.kernel.expectations")

from tests.support.fixtures import (  # noqa: E402 - behind the line that makes its assertions speak
    collector,
    collector_program,
    namespaces,
    nginx_server,
    node_server,
    python_http_server,
)

__all__ = ["collector", "collector_program", "namespaces", "nginx_server", "node_server", "python_http_server"]
