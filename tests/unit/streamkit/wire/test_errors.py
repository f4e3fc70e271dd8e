from __future__ import annotations

import json
import re

import openai
import pytest

from streamkit.wire.errors import BAD_INPUT, TABLE, Code, HeadraceError, envelope, error_frame

CODES = list(Code)
#: https://grpc.github.io/grpc/core/md_doc_statuscodes.html
GRPC = {
    *("CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
}


def headers_of(error: HeadraceError) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in error.headers()}


def test_every_code_has_a_row_and_no_row_is_left_over() -> None:
    assert set(TABLE) == set(Code)


@pytest.mark.parametrize("code", CODES)
def test_rows_hold_valid_wire_values(code: Code) -> None:
    wire = TABLE[code]
    assert 400 <= wire.status <= 599
    # RFC 6455 §7.4: these registered codes may be sent by an endpoint, or the private range.
    assert wire.ws_close in (1003, 1008, 1009, 1011, 1012, 1013) or wire.ws_close == 4000 + wire.status
    assert wire.grpc in GRPC
    assert wire.reason is None or re.fullmatch(r"(rejected|evicted)-[a-z-]+", wire.reason)


@pytest.mark.parametrize("code", CODES)
def test_only_refusals_that_may_pass_carry_retry_advice(code: Code) -> None:
    wire = TABLE[code]
    if wire.retry_after_ms is not None:
        assert wire.status in (408, 409, 429) or wire.status >= 500
    assert (code in BAD_INPUT) == (wire.status < 500 and wire.status not in (408, 429))


def test_a_budget_that_is_used_up_is_no_reason_to_try_again() -> None:
    assert headers_of(HeadraceError(Code.INSUFFICIENT_QUOTA, "no")) == {
        "x-headrace-reason": "rejected-budget",
        "x-should-retry": "false",
    }


SHEDS = [code for code in CODES if TABLE[code].status in (429, 503) and code is not Code.INSUFFICIENT_QUOTA]


@pytest.mark.parametrize("code", SHEDS)
def test_every_shed_says_when_to_come_back_and_why(code: Code) -> None:
    headers = headers_of(HeadraceError(code, "no"))
    assert int(headers["retry-after"]) * 1000 >= int(headers["retry-after-ms"]) > 0
    assert headers["x-should-retry"] == "true"
    assert headers["x-headrace-reason"]


@pytest.mark.parametrize("code", CODES)
def test_the_sdk_retries_exactly_what_the_table_advises(code: Code) -> None:
    httpx = pytest.importorskip("httpx2")
    error = HeadraceError(code, "no")
    answer = httpx.Response(error.wire.status, headers=headers_of(error))
    client = openai.OpenAI(api_key="x", base_url="http://127.0.0.1:1")
    assert client._should_retry(answer) is (error.retry_after_ms is not None)
    if error.retry_after_ms:
        assert client._parse_retry_after_header(answer.headers) == pytest.approx(error.retry_after_ms / 1000)
    client.close()


@pytest.mark.parametrize(("millis", "seconds"), [(0, b"0"), (1, b"1"), (1000, b"1"), (1001, b"2")])
def test_whole_seconds_are_rounded_up(millis: int, seconds: bytes) -> None:
    headers = dict(HeadraceError(Code.SATURATED, "no", retry_after_ms=millis).headers())
    assert headers[b"retry-after"] == seconds
    assert headers[b"retry-after-ms"] == b"%d" % millis


@pytest.mark.parametrize("code", CODES)
def test_envelopes_and_frames_are_openai_errors(code: Code) -> None:
    error = HeadraceError(code, 'Ein "Fehler" — 日本\n', param="messages")
    body = json.loads(error.envelope())["error"]
    assert body == {"message": error.message, "type": error.wire.type, "param": "messages", "code": code.value}
    assert error.frame() == b"data: " + error.envelope() + b"\n\n"
    assert error.frame().count(b"\n") == 2, "one line, whatever the message holds"


def test_the_exception_carries_its_message_and_code() -> None:
    error = HeadraceError(Code.GONE, "too late")
    assert (str(error), error.code, error.param, error.wire.status) == ("too late", Code.GONE, None, 410)


def test_envelopes_of_others_take_any_code() -> None:
    assert json.loads(envelope("m", type_="t", param=None, code=404))["error"]["code"] == 404
    assert error_frame(b"{}") == b"data: {}\n\n"
