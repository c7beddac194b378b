"""Python's http.server. Usage: python_server.py PORT HTTP/1.0|HTTP/1.1."""

from __future__ import annotations

import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

BODY: Final = b"y" * 700


class Handler(BaseHTTPRequestHandler):
    """Answers every method with the same body; /close leaves the length out, /status/<code> chooses the status."""

    def answer(self) -> None:
        """Read the request's body, then write header and body one after the other."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = int(self.path.rsplit("/", 1)[1]) if self.path.startswith("/status/") else HTTPStatus.OK
        self.send_response(status)
        if self.path.startswith("/close"):
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(BODY)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = answer  # noqa: N815  # http.server wants these names

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class Server(ThreadingHTTPServer):
    """Room for many connections at once."""

    request_queue_size = 1024
    daemon_threads = True


if __name__ == "__main__":
    Handler.protocol_version = sys.argv[2]
    Server(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()  # noqa: S104  # namespaces have addresses of their own
