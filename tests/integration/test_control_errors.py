"""What control says to requests that it cannot use."""

from __future__ import annotations

import asyncio
import json

import pytest

from control.app import BODY_LIMIT_BYTES
from tests.integration.control_desk import TIMEOUT_MS, Desk, desk

pytestmark = pytest.mark.anyio


ERRORS = [
    ("POST", "/v1/route", b'{"model":"m","priority_class":12}', 400, "priority_class", "<= 9"),
    ("POST", "/v1/route", b"{}", 400, "model", "missing required field model"),
    ("POST", "/v1/route", b'{"model":"m","prompt":"x"}', 400, "prompt", "unknown field prompt"),
    ("POST", "/v1/route", b"{nonsense", 400, None, "not JSON"),
    ("POST", "/v1/route", b'{"model": "\xff"}', 400, None, "not JSON"),
    ("POST", "/v1/holds", b'{"backend": "\xff"}', 400, None, "not JSON"),
    ("POST", "/v1/sync", b'{"edge":{"header":{"instance":"?","sequence":0}}}', 400, "edge.header.instance", "node"),
    ("POST", "/v1/sync", b'{"edge":{"header":{"sequence":0}}}', 400, "edge.header.instance", "instance"),
    ("POST", "/v1/route", b" " * (BODY_LIMIT_BYTES + 1), 413, None, "65536"),
    ("GET", "/v1/route", b"", 405, None, "POST"),
    ("GET", "/v1/nowhere", b"", 404, None, "Not Found"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "param", "words"), ERRORS)
async def test_errors_name_the_field_and_the_limit(method, path, body, status, param, words):
    async with desk() as control:
        if method == "POST":
            answer = await control.post(path, body)
        else:
            answer = await control.get(path)
        assert answer.status == status
        error = json.loads(answer.body)["error"]
        assert error["param"] == param
        assert words in error["message"]
        assert answer.headers["x-should-retry"] == "false"
        if status == 405:
            assert answer.headers["allow"] == "POST"


async def first_line(control: Desk, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(control.url.rpartition(":")[2]))
    writer.write(b"POST /v1/route HTTP/1.1\r\nhost: x\r\n" + request)
    async with asyncio.timeout(TIMEOUT_MS / 1000):
        line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


async def test_only_json_is_read():
    async with desk() as control:
        request = b"content-type: text/plain\r\ncontent-length: 0\r\n\r\n"
        assert b" 415 " in await first_line(control, request)


async def test_a_body_without_end_is_cut():
    async with desk(body_timeout_ms=20) as control:
        assert b" 408 " in await first_line(control, b"content-length: 50\r\n\r\n{")


async def test_a_body_of_unknown_length_is_bounded_too():
    async with desk() as control:
        piece = b"%x\r\n%s\r\n" % (BODY_LIMIT_BYTES + 1, b" " * (BODY_LIMIT_BYTES + 1))
        assert b" 413 " in await first_line(control, b"transfer-encoding: chunked\r\n\r\n" + piece)
