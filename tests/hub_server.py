"""A Hugging Face hub on loopback: the calls that `huggingface_hub` makes for one model, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Files that it serves, and the requests that it got."""

    name: str
    files: Mapping[str, bytes]
    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def hub_server(name: str, folder: Path, **more: bytes) -> Iterator[Hub]:
    """Serve the folder's files, and `more`, as the model `name` with branch main at COMMIT."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    hub = Hub(name, {**files, **{key.replace("__", "/").replace("_", "."): value for key, value in more.items()}})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, hub)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            server.shutdown()


def _answer(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    path = unquote(urlsplit(request.path).path)
    hub.asked.append(f"{request.command} {path}")
    about = f"/api/models/{hub.name}"
    if not path.startswith((about, f"/{hub.name}/resolve/")):
        _send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
    elif path in (about, *(f"{about}/revision/{one}" for one in ("main", COMMIT))):
        siblings = [{"rfilename": name, "size": len(content)} for name, content in hub.files.items()]
        _send(request, 200, json.dumps({"id": hub.name, "sha": COMMIT, "siblings": siblings}).encode())
    elif path.startswith(f"{about}/tree/"):
        tree = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in hub.files.items()
        ]
        _send(request, 200, json.dumps(tree).encode())
    elif path.startswith(f"/{hub.name}/resolve/{COMMIT}/") and (name := path.split("/", 5)[5]) in hub.files:
        content = hub.files[name]
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        _send(request, 200, content, {"ETag": etag, "X-Repo-Commit": COMMIT})
    else:
        _send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})


def _send(
    request: BaseHTTPRequestHandler, status: int, content: bytes, headers: Mapping[str, str] | None = None
) -> None:
    request.send_response(status)
    for name, value in {
        "Content-Length": str(len(content)),
        "Content-Type": "application/json",
        **(headers or {}),
    }.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)
