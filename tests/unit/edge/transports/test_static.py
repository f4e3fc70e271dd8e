from __future__ import annotations

from pathlib import Path

import pytest

from edge.transports.static import StaticFiles
from streamkit.wire.errors import Code, HeadraceError
from tests.unit.edge.transports.asgi import Asgi

pytestmark = pytest.mark.anyio


@pytest.fixture
def files(tmp_path: Path) -> StaticFiles:
    (tmp_path / "index.html").write_text("<h1>ä</h1>")
    (tmp_path / "js").mkdir()
    (tmp_path / "js" / "app.js").write_text("let a")
    (tmp_path / "secret.py").write_text("x")
    (tmp_path / "logo.svg").write_text("<svg/>")
    (tmp_path / "blob").write_bytes(b"\0\xff")
    return StaticFiles(tmp_path)


async def get(files: StaticFiles, path: str, *, method: str = "GET", **headers: str) -> Asgi:
    asgi = Asgi(method=method, headers={name.replace("_", "-"): value for name, value in headers.items()})
    await files.serve(path, asgi.scope, asgi.send)
    return asgi


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/", b"text/html; charset=utf-8", "<h1>ä</h1>".encode()),
        ("/assets/js/app.js", b"text/javascript; charset=utf-8", b"let a"),
        ("/assets/logo.svg", b"image/svg+xml; charset=utf-8", b"<svg/>"),
        ("/assets/blob", b"application/octet-stream", b"\0\xff"),
    ],
)
async def test_files_and_their_types(files: StaticFiles, path: str, kind: bytes, body: bytes) -> None:
    assert path in files
    asgi = await get(files, path)
    assert (asgi.status, asgi.headers[b"content-type"], asgi.body) == (200, kind, body)


@pytest.mark.parametrize("path", ["/index.html", "/assets/../secret.py", "/assets/secret.py", "/assets/", "/nothing"])
async def test_only_what_was_there_at_the_start_is_served(files: StaticFiles, path: str) -> None:
    assert path not in files
    with pytest.raises(HeadraceError) as caught:
        await get(files, path)
    assert caught.value.code is Code.NOT_FOUND


async def test_a_known_etag_is_a_304_without_a_body(files: StaticFiles) -> None:
    etag = (await get(files, "/")).headers[b"etag"]
    again = await get(files, "/", if_none_match=etag.decode())
    assert (again.status, again.body, again.complete) == (304, b"", True)
    assert again.headers[b"etag"] == etag
    assert (await get(files, "/", if_none_match='"other"')).status == 200
    assert (await get(files, "/assets/blob")).headers[b"etag"] != etag


async def test_head_says_the_length_and_sends_nothing(files: StaticFiles) -> None:
    asgi = await get(files, "/", method="HEAD")
    assert (asgi.headers[b"content-length"], asgi.body) == (b"11", b"")


async def test_nothing_from_elsewhere_and_nothing_inline_may_run(files: StaticFiles) -> None:
    headers = (await get(files, "/")).headers
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers[b"x-content-type-options"] == b"nosniff"
