"""The refusal table, row by row, and on every refusal that was captured."""

from __future__ import annotations

import pytest

from edge.protocol.refusals import verdict, verdict_of_break, verdict_of_frame
from streamkit.wire.errors import Code, HeadraceError
from tests.unit.streamkit.wire import vectors

ERROR = b'{"error":{"message":"because","code":%d}}'


@pytest.mark.parametrize(
    ("status", "retry", "blame", "code", "told"),
    [
        (301, True, True, Code.BACKEND_ERROR, 502),
        (400, False, False, None, 400),
        (401, True, True, Code.BACKEND_ERROR, 502),
        (403, True, True, Code.BACKEND_ERROR, 502),
        (404, True, False, None, 404),
        (405, False, False, None, 405),
        (408, True, False, Code.SATURATED, 429),
        (422, False, False, None, 422),
        (429, True, False, Code.SATURATED, 429),
        (500, True, True, Code.BACKEND_ERROR, 502),
        (501, True, False, None, 501),
        (502, True, True, Code.BACKEND_ERROR, 502),
        (503, True, False, Code.SATURATED, 429),
        (504, True, True, Code.BACKEND_ERROR, 502),
    ],
)
def test_the_table(status: int, retry: bool, blame: bool, code: Code | None, told: int) -> None:
    for body in (ERROR % status, b"", b"<html>"):
        found = verdict("gpu-1", status, body)
        assert (found.retry, found.blame, found.status) == (retry, blame, told)
        assert (found.error.code if found.error else None) is code
        if found.error is not None:
            assert "gpu-1" in found.error.message


@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_engines_own_words_are_passed_on_within_reason(status: int) -> None:
    found = verdict("a", status, ERROR % status)
    assert found.error is not None
    assert found.error.message.endswith(": because")
    long = verdict("a", status, b'{"error":{"message":"%b"}}' % (b"x" * 10_000))
    assert long.error is not None
    assert len(long.error.message) < 500


def test_the_gateways_own_credentials_are_not_the_clients_business() -> None:
    found = verdict("a", 401, b'{"error":"Unauthorized"}')
    assert found.error is not None
    assert "api_key_env" in found.error.message
    assert "Unauthorized" not in found.error.message


@pytest.mark.parametrize("refusal", vectors.refusals(), ids=lambda refusal: refusal.name)
def test_captured_refusals(refusal: vectors.Refusal) -> None:
    found = verdict("a", refusal.status, refusal.body)
    if refusal.status in (400, 405, 422):
        assert found == (False, False, None, refusal.status)
    elif "queue" in refusal.name or "no_slot" in refusal.name or "limit" in refusal.name:
        assert (found.retry, found.blame, found.status) == (True, False, 429)
    elif "drain" in refusal.name or "kill" in refusal.name or "term" in refusal.name:
        assert (found.retry, found.blame, found.status) == (True, True, 502)
    else:
        assert found.retry


def frame(code: int | str, prefix: bytes = b"data: ") -> bytes:
    return prefix + b'{"error": {"message": "because", "code": %b}}\n\n' % str(code).encode()


@pytest.mark.parametrize("prefix", [b"data: ", b"data:", b"event: error\ndata: "])
def test_a_frame_is_judged_by_the_status_in_it(prefix: bytes) -> None:
    assert verdict_of_frame("a", frame(400, prefix)) == (False, False, None, 400)
    found = verdict_of_frame("a", frame(500, prefix))
    assert (found.retry, found.blame, found.status) == (True, True, 502)
    assert found.error is not None
    assert found.error.message.endswith(": because")
    assert verdict_of_frame("a", frame(503, prefix)).status == 429


@pytest.mark.parametrize(
    "event", [frame(0), frame(200), frame(999), frame('"rate"'), b"data: [1]\n\n", b"event: error\ndata: x\n\n"]
)
def test_a_frame_without_a_usable_status_is_a_failure(event: bytes) -> None:
    found = verdict_of_frame("a", event)
    assert (found.retry, found.blame, found.status) == (True, True, 502)


def test_the_captured_frame_is_a_verdict_on_the_request() -> None:
    event = vectors.stream("vllm/c08b_bad_schema_stream.sse").partition(b"\n\n")[0] + b"\n\n"
    assert verdict_of_frame("a", event) == (False, False, None, 400)


def test_a_broken_connection() -> None:
    broken = HeadraceError(Code.STREAM_BROKEN, "cut")
    found = verdict_of_break("a", broken, stale=False)
    assert (found.retry, found.blame, found.status) == (True, True, 502)
    assert found.error is not None
    assert (found.error.code, found.error.message) == (Code.BACKEND_ERROR, "cut")
    assert not verdict_of_break("a", broken, stale=True).blame
    unnamed = verdict_of_break("gpu-1", None, stale=False)
    assert unnamed.error is not None
    assert "gpu-1" in unnamed.error.message


def test_our_own_full_memory_is_no_fault_of_the_backend_and_no_retry_helps() -> None:
    found = verdict_of_break("a", HeadraceError(Code.OUT_OF_MEMORY, "full"), stale=False)
    assert (found.retry, found.blame, found.status) == (False, False, 503)


@pytest.mark.parametrize(
    ("code", "retry", "blame", "status"),
    [
        (Code.INVALID_REQUEST, False, False, 400),
        (Code.MODEL_NOT_FOUND, True, False, 404),
        (Code.SATURATED, True, False, 429),
        (Code.NO_BACKEND, True, False, 503),
        (Code.BACKEND_TIMEOUT, True, True, 504),
        (Code.BACKEND_ERROR, True, True, 502),
        (Code.OUT_OF_MEMORY, False, False, 503),
    ],
)
def test_what_a_source_itself_says(code, retry, blame, status) -> None:
    told = verdict_of_break("b", HeadraceError(code, "no"), stale=False)
    assert (told.retry, told.blame, told.status) == (retry, blame, status)


def test_a_request_that_an_engine_cannot_be_told_is_tried_elsewhere_and_blames_nobody() -> None:
    error = HeadraceError(Code.INVALID_REQUEST, "`logit_bias` cannot be expressed", param="logit_bias")
    told = verdict_of_break("b", error, stale=False, unfit=True)
    assert (told.retry, told.blame, told.status, told.error) == (True, False, 400, error)
