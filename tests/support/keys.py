"""Keys for an edge under test, without control's store: a stand-in before control adds them to its snapshots."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from streamkit.wire.keys import digest
from tests.support.exchange import ask

__all__ = ["with_keys"]


@contextlib.contextmanager
def with_keys(control_url: str, keys: Sequence[str]) -> Iterator[str]:
    """Yield the address of a control that demands one of `keys`; everything else it says is the real control's."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["content-length"]))
            answer = ask(control_url, self.path, asked)
            body = answer.body
            if self.path == "/v1/sync" and answer.status == 200:
                snapshot = json.loads(body)
                rows = [{"id": f"key-{at}", "sha256": digest(key), "tenant": "team"} for at, key in enumerate(keys)]
                snapshot["keys"] = {"version": 1, "required": True, "keys": rows, "tenants": [{"name": "team"}]}
                body = json.dumps(snapshot).encode()
            self.send_response(answer.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
