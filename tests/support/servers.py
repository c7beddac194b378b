"""Real HTTP servers with different habits of writing: sendfile, one write, header then body, chunked, scripted.

In: a folder for configuration and logs. Out: a server that listens on ``url``; ended with its block.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tests.support.clients import Exchange
from tests.support.processes import Child, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.network import Namespace

_HERE: Final = Path(__file__).parent
FILE_SIZES: Final = (0, 1, 1024, 16384, 65537, 1048576)
FILE_TIME_S: Final = 1_700_000_000  # fixed, so that a conditional request can name it
FILE_TIME: Final = b"Tue, 14 Nov 2023 22:13:20 GMT"
_NGINX_REFUSALS: Final = (403, 404, 409, 429, 500, 502, 503)
REFUSAL_BODY: Final = b"no"
API_BODY: Final = b'{"id": 23, "name": "otel"}'


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        child: Its main process.
        host: Address it is reached by.
        port: Port it listens on.
        folder: Its configuration, files and logs.
    """

    child: Child
    host: str
    port: int
    folder: Path

    @property
    def url(self) -> str:
        """Origin for clients, without a slash at its end."""
        return f"http://{self.host}:{self.port}"


@contextmanager
def _serve(command: Sequence[str | Path], folder: Path, port: int, namespace: Namespace | None) -> Iterator[Server]:
    host = namespace.address if namespace else "127.0.0.1"
    with Child(command, log=folder / "output.log", namespace=namespace, folder=folder) as child:
        child.wait_listening(port)
        yield Server(child, host, port, folder)


@contextmanager
def nginx(
    folder: Path, *, namespace: Namespace | None = None, workers: int = 1, log: bool = True, extra: str = ""
) -> Iterator[Server]:
    """Nginx with static files (sendfile), fixed answers and uploads; *extra* is put into its server block.

    ``/files/<size>``: bytes by sendfile. ``/api/…``: 200. ``/created/…``: 201. ``/empty/…``: 204. ``/status/<code>``: a
    refusal. ``/upload/…``: reads the whole request body, then 200. ``/early/…``: 200 before the body was read.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    _write_files(folder / "files")
    config = folder / "nginx.conf"
    config.write_text(_nginx_config(folder, port, workers=workers, log=log, extra=extra), encoding="utf-8")
    with _serve(["nginx", "-p", folder, "-c", config, "-e", "stderr"], folder, port, namespace) as server:
        yield server


def nginx_served(server: Server) -> Counter[Exchange]:
    """What nginx's own access log says it served."""
    lines = (server.folder / "access.log").read_text(encoding="utf-8").splitlines()
    return Counter(_logged(line) for line in lines)


def _logged(line: str) -> Exchange:
    method, target, status, response_bytes, request_bytes = line.split("\t")
    path = target.partition("?")[0]
    return Exchange(method, path, int(status), int(response_bytes), 0 if request_bytes == "-" else int(request_bytes))


def _write_files(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for size in FILE_SIZES:
        path = folder / str(size)
        path.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
        os.utime(path, (FILE_TIME_S, FILE_TIME_S))


def _nginx_config(folder: Path, port: int, *, workers: int, log: bool, extra: str) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    access = "access_log access.log exchanges;" if log else "access_log off;"
    refusals = "\n".join(
        f"    location /status/{code} {{ return {code} '{REFUSAL_BODY.decode()}'; }}" for code in _NGINX_REFUSALS
    )
    places = "\n".join(
        f"  {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
daemon off; {user}
worker_processes {workers};
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
{places}
  log_format exchanges "$request_method\\t$request_uri\\t$status\\t$body_bytes_sent\\t$http_content_length";
  {access}
  sendfile on; tcp_nopush on; keepalive_requests 100000000; keepalive_timeout 3600s; client_max_body_size 0;
  default_type application/octet-stream;
  server {{
    listen {port} backlog=4096; listen [::]:{port} backlog=4096;
    root {folder};
    location /files/ {{ }}
    location /api/ {{ return 200 '{API_BODY.decode()}'; }}
    location /created/ {{ return 201 'created'; }}
    location /empty/ {{ return 204; }}
    location /early/ {{ return 200 'early'; }}
    location /upload/ {{ proxy_pass http://unix:{folder}/sink.sock:/; access_log access.log exchanges; }}
{refusals}
{extra}
  }}
  server {{ listen unix:{folder}/sink.sock; access_log off; location / {{ return 200 'stored'; }} }}
}}
"""


@contextmanager
def node(folder: Path, *, namespace: Namespace | None = None) -> Iterator[Server]:
    """Node's http server; what each path does stands in ``node_server.js``."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    with _serve(["node", _HERE / "node_server.js", str(port)], folder, port, namespace) as server:
        yield server


@contextmanager
def python_server(
    folder: Path, *, protocol: Literal["HTTP/1.0", "HTTP/1.1"] = "HTTP/1.1", namespace: Namespace | None = None
) -> Iterator[Server]:
    """Python's http.server: header and body in separate writes; in HTTP/1.0 the end of the connection ends the body."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [sys.executable, _HERE / "python_server.py", str(port), protocol]
    with _serve(command, folder, port, namespace) as server:
        yield server


@contextmanager
def scripted(folder: Path, steps: Sequence[Sequence[Any]], *, namespace: Namespace | None = None) -> Iterator[Server]:
    """A server that does to every connection what the steps say; the steps are listed in ``scripted_server.py``."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    plain = [[step.decode("latin-1") if isinstance(step, bytes) else step for step in one] for one in steps]
    command: list[str | Path] = [sys.executable, _HERE / "scripted_server.py", str(port), json.dumps(plain)]
    with _serve(command, folder, port, namespace) as server:
        yield server
