"""Routes: few answers, whatever is asked."""

from __future__ import annotations

import time
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.enrich.routes import MAX_PATH, MAX_PATHS, OVERFLOW, Patterns, RouteBook, clean_path, template

UUID: Final = "550e8400-e29b-41d4-a716-446655440000"
SHA1: Final = "da39a3ee5e6b4b0d3255bfef95601890afd80709"


def book(*patterns: str, limit: int = 100) -> RouteBook:
    """Return an empty book."""
    return RouteBook(Patterns(patterns), limit)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        # what is no id stays
        ("/", "/"),
        ("", ""),
        ("/index.html", "/index.html"),
        ("/api/v1/users", "/api/v1/users"),
        ("/api/v2beta1/namespaces", "/api/v2beta1/namespaces"),
        ("/static/app.min.js", "/static/app.min.js"),
        ("/.well-known/openid-configuration", "/.well-known/openid-configuration"),
        ("/a//b/", "/a//b/"),
        ("/ipv4/sha256/base64/utf-8/k8s/http2", "/ipv4/sha256/base64/utf-8/k8s/http2"),
        ("/facade/deadbeef/cafe", "/facade/deadbeef/cafe"),
        ("/opentelemetry.proto.collector.trace.v1.TraceService/Export",) * 2,
        ("/docs/1.2.3/api/3.11", "/docs/1.2.3/api/3.11"),
        ("/how-to-install-python-3-on-debian", "/how-to-install-python-3-on-debian"),
        ("/@scope/package", "/@scope/package"),
        ("/getUserProfileByAccountName", "/getUserProfileByAccountName"),
        # numbers
        ("/users/1", "/users/{id}"),
        ("/users/12345/orders/67890", "/users/{id}/orders/{id}"),
        ("/1/2/3", "/{id}/{id}/{id}"),
        ("/order-4242/items", "/order-{id}/items"),
        ("/user_1234", "/user_{id}"),
        ("/img/12345.png", "/img/{id}.png"),
        ("/logs/2024.tar.gz", "/logs/{id}.tar.gz"),
        # UUIDs
        (f"/users/{UUID}", "/users/{id}"),
        (f"/users/{UUID.upper()}/x", "/users/{id}/x"),
        (f"/users/{{{UUID}}}", "/users/{id}"),
        (f"/jobs/job-{UUID}.json", "/jobs/job-{id}.json"),
        # hashes
        (f"/commit/{SHA1}", "/commit/{id}"),
        (f"/commit/{SHA1[:8]}", "/commit/{id}"),
        ("/etag/0x1F2e3D4c5b", "/etag/{id}"),
        (f"/blobs/sha256:{'0a' * 32}", "/blobs/{id}"),
        # tokens
        ("/v/dQw4w9WgXcQdQw4w9WgXcQ", "/v/{id}"),
        ("/t/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/t/{id}"),
        ("/t/cjld2cjxh0000qzrmn831i7rn", "/t/{id}"),
        ("/t/dGhpcyBpcyBhIHRlc3QgMTIz==", "/t/{id}"),
        ("/t/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "/t/{id}"),
        ("/x/" + "a" * 65, "/x/{id}"),
        # dates, addresses
        ("/reports/2024-02-29", "/reports/{date}"),
        ("/reports/2024-02-29T12:00:00Z/full", "/reports/{date}/full"),
        ("/mail/ann@example.org/inbox", "/mail/{email}/inbox"),
        ("/mail/ann%40example.org", "/mail/{email}"),
        ("/hosts/10.0.0.17", "/hosts/{id}"),
    ],
)
def test_ids_are_recognised_and_words_are_left(path: str, route: str) -> None:
    """Ids of every common kind become placeholders; versions, words and slugs stay."""
    assert template(path) == route
    assert book().route(path.encode() or b"/") == (route or "/")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a?b=1", "/a"),
        (b"/a?b=/c?d", "/a"),
        (b"http://example.org/a/b?c", "/a/b"),
        (b"http://example.org", "/"),
        (b"*", "*"),
        (b"example.org:443", "*"),
        (b"", "*"),
        (b"/\xff\xfe", "/\ufffd\ufffd"),
        (b"/" + b"ab/" * 400, "/" + "ab/" * 170 + "*"),
    ],
)
def test_the_path_of_a_target_is_found(target: bytes, path: str) -> None:
    """Every form of a request target (RFC 9112, 3.2) gives a path, or ``*`` where it has none."""
    assert clean_path(target) == path


def test_patterns_come_first_in_their_order() -> None:
    """A path that fits a pattern has the pattern as its route, as it was written."""
    routes = book("/users/{name}", "/users/:name/posts", "/files/*", "/exact")
    assert routes.route(b"/users/ann") == "/users/{name}"
    assert routes.route(b"/users/ann?x=1") == "/users/{name}"
    assert routes.route(b"/users/ann/posts") == "/users/:name/posts"
    assert routes.route(b"/users/7/friends") == "/users/{id}/friends"
    assert routes.route(b"/files/a/b/c.txt") == "/files/*"
    assert routes.route(b"/exact") == "/exact"
    assert routes.route(b"/exact/more") == "/exact/more"


def test_new_routes_beyond_the_limit_go_under_their_first_segment() -> None:
    """What is known stays itself, what is new is collected under a known first segment, else under the root."""
    routes = book(limit=3)
    assert [routes.route(path) for path in (b"/api/a", b"/api/b", b"/shop/c")] == ["/api/a", "/api/b", "/shop/c"]
    assert routes.route(b"/api/z") == "/api/*"
    assert routes.route(b"/api/y/x") == "/api/*"
    assert routes.route(b"/shop/z/z") == "/shop/*"
    assert routes.route(b"/wp-admin/setup.php") == OVERFLOW
    assert routes.route(b"/z") == OVERFLOW
    assert routes.route(b"/api/b") == "/api/b"
    assert routes.overflows == 5


def test_a_scan_cannot_make_routes_without_end() -> None:
    """A hundred thousand different paths make no more than the limit and the collective ones."""
    routes = book(limit=20)
    letters = [f"{chr(97 + a)}{chr(97 + b)}{chr(97 + c)}" for a in range(26) for b in range(26) for c in range(26)]
    found = {routes.route(f"/{first}/{last}".encode()) for first in letters[:50] for last in letters[:200]}
    assert len(found) <= 20 + 20 + 1
    assert len(routes._paths) <= MAX_PATHS


def test_routes_not_asked_for_make_room() -> None:
    """A scan fills the book; what nobody asks for during two periods is forgotten, what is in use stays."""
    routes = book(limit=2)
    routes.route(b"/scan")
    routes.route(b"/used")
    assert routes.route(b"/new") == OVERFLOW
    routes.age()
    assert routes.route(b"/used") == "/used"
    routes.age()
    assert routes.route(b"/new") == "/new"
    assert routes.route(b"/used") == "/used"
    assert routes.route(b"/scan") == OVERFLOW


@given(st.binary(max_size=2000))
def test_any_target_has_a_route(target: bytes) -> None:
    """No bytes make an exception, and what comes out is bounded and can be asked for again."""
    routes = book("/x/{y}/*", limit=5)
    first = routes.route(target)
    assert routes.route(target) == first
    assert len(first) <= 4 * MAX_PATH


@given(st.lists(st.sampled_from(["a", "1", UUID, "{id}", "v1", "a-1", ".", "", "aB3" * 6]), max_size=8))
def test_templating_is_stable(segments: list[str]) -> None:
    """A route is its own route: templating twice changes nothing."""
    once = template("/" + "/".join(segments))
    assert template(once) == once


def test_a_miss_is_cheap() -> None:
    """Ten thousand different ids cost microseconds each, whatever their segments are made to look like."""
    hostile = [
        "a-" * 31 + "a",
        "1" * 63 + "g",
        "0f" * 31 + "g",
        "aA" * 31 + "!",
        "-" * 64,
        "a.a" * 21,
        "9a" * 30 + "zz",
    ]
    routes = book()
    begin = time.perf_counter()
    for number in range(10_000):
        routes.route(f"/users/{number}/{hostile[number % len(hostile)]}".encode())
    assert time.perf_counter() - begin < 2.0
