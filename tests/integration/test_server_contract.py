"""What `edge/server` takes for granted of uvicorn and httptools. An upgrade that changes any of it fails here first.

When a test here fails: read the diff of `uvicorn/protocols/http/httptools_impl.py` and `flow_control.py` against the
pinned version, follow the pointer in the failing test to the place that relies on it, and only then move the pin.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import re
import textwrap
from typing import Any

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from edge.server.cycle import Cycle
from edge.server.limits import ServerLimits
from edge.server.protocol import EdgeProtocol, protocol_class
from edge.server.upgrade import replayed

PINNED = "0.54.0"


def source(thing: Any) -> str:
    return textwrap.dedent(inspect.getsource(thing))


def assigned(method: Any) -> set[str]:
    """Return the attributes of self that a method sets."""
    return set(re.findall(r"self\.(\w+)(?:: [^=\n]+)? = ", source(method)))


def test_uvicorn_is_the_version_that_edge_server_was_written_against():
    assert uvicorn.__version__ == PINNED, __doc__
    assert f"uvicorn=={PINNED}" in (importlib.metadata.requires("headrace") or [])


def test_the_protocol_has_the_state_that_we_read_and_set():
    """EdgeProtocol: pipeline, cycle, headers, scope, url, parser, flow, transport, timeout_keep_alive_task."""
    fields = assigned(HttpToolsProtocol.__init__)
    assert {
        "app",
        "app_state",
        "config",
        "connections",
        "cycle",
        "flow",
        "headers",
        "logger",
        "loop",
        "parser",
        "pipeline",
        "scope",
        "server_state",
        "tasks",
        "timeout_keep_alive_task",
        "transport",
    } <= fields
    assert not {name for name in vars(EdgeProtocol) if name.startswith("_") and name.strip("_") in fields}
    ours = assigned(EdgeProtocol.__init__) & fields
    assert not ours, f"uvicorn has got attributes of the same names: {ours}"


def test_the_protocol_has_the_methods_that_we_override_or_call_and_no_new_callback():
    for name, arguments in {
        "connection_made": ["transport"],
        "connection_lost": ["exc"],
        "eof_received": [],
        "data_received": ["data"],
        "pause_writing": [],
        "resume_writing": [],
        "shutdown": [],
        "on_message_begin": [],
        "on_url": ["url"],
        "on_header": ["name", "value"],
        "on_headers_complete": [],
        "on_body": ["body"],
        "on_message_complete": [],
        "on_response_complete": [],
        "_start_asgi_task": ["cycle", "app"],
        "_unset_keepalive_if_required": [],
    }.items():
        signature = inspect.signature(getattr(HttpToolsProtocol, name))
        assert list(signature.parameters)[1:] == arguments, name
    callbacks = {name for name in vars(HttpToolsProtocol) if name.startswith("on_")}
    assert callbacks == {name for name in vars(EdgeProtocol) if name.startswith("on_")}, (
        "each needs the replay's guard"
    )


def test_a_request_is_started_in_one_place_and_queued_by_appendleft():
    """EdgeProtocol._start_asgi_task injects the writer; _reject takes the newest from the left."""
    text = source(HttpToolsProtocol)
    assert text.count("create_task(cycle.run_asgi(app)") == source(HttpToolsProtocol._start_asgi_task).count(
        "create_task(cycle.run_asgi(app)"
    )
    assert "self.pipeline.appendleft((self.cycle, app))" in source(HttpToolsProtocol.on_headers_complete)
    assert "cycle, app = self.pipeline.pop()" in source(HttpToolsProtocol.on_response_complete)
    assert "if existing_cycle is None or existing_cycle.response_complete:" in source(
        HttpToolsProtocol.on_headers_complete
    )


def test_the_protocol_reads_only_by_data_received_and_flow_control():
    """EdgeProtocol.data_received replaces uvicorn's: what else that does must be done by ours."""
    body = source(HttpToolsProtocol.data_received)
    assert set(re.findall(r"self\.(\w+)\(", body)) == {
        "_unset_keepalive_if_required",
        "send_400_response",
        "_should_upgrade",
        "handle_websocket_upgrade",
        "_unsupported_upgrade_warning",
    }
    assert "self.parser.feed_data(data)" in body
    pauses = re.findall(r"pause_reading\(\)", source(HttpToolsProtocol))
    assert len(pauses) == 2, "when pipelined, and when a body is over the high water mark"


def test_the_keep_alive_timer_is_set_and_cleared_where_we_know():
    """EdgeProtocol.on_response_complete clears it for what waits behind; connection_lost always."""
    setters = [
        name
        for name, method in vars(HttpToolsProtocol).items()
        if callable(method) and "call_later" in inspect.getsource(method)
    ]
    assert setters == ["on_response_complete"]
    assert "self.transport.close()" in source(HttpToolsProtocol.timeout_keep_alive_handler)


def test_the_cycle_has_the_state_that_we_read_and_set():
    """Cycle.send, EdgeProtocol._gone, _refuse, shutdown."""
    assert assigned(RequestResponseCycle.__init__) >= {
        "body",
        "chunked_encoding",
        "disconnected",
        "expected_content_length",
        "flow",
        "keep_alive",
        "logger",
        "message_event",
        "more_body",
        "on_response",
        "response_complete",
        "response_started",
        "scope",
        "transport",
        "waiting_for_100_continue",
    }
    assert not hasattr(RequestResponseCycle, "__slots__"), "_start_asgi_task changes its instances' class"
    assert not hasattr(RequestResponseCycle, "closes")
    assert "self.on_response = lambda: None" in source(RequestResponseCycle.run_asgi), "or a cycle holds its protocol"


def test_the_cycle_closes_by_itself_only_when_keep_alive_is_off_at_the_end():
    """Cycle.send turns keep_alive on for the last message, so that the protocol does the closing."""
    send = source(RequestResponseCycle.send)
    assert send.count("self.transport.close()") == 1
    ending = send[send.index("if not more_body:\n            if self.expected_content_length") :]
    lines = [line.strip() for line in ending.splitlines()]
    at = lines.index("if not self.keep_alive:")
    assert lines[at : at + 3] == ["if not self.keep_alive:", "self.transport.close()", "self.on_response()"]
    assert "if not self.keep_alive and not has_connection_close:" in send


def test_a_cycle_sends_chunks_only_where_nobody_decided_otherwise():
    """Cycle.send sets chunked_encoding to False for HTTP/1.0, and the length to what is sent."""
    send = source(RequestResponseCycle.send)
    assert 'if name == b"content-length" and self.chunked_encoding is None:' in send
    assert "if self.chunked_encoding is None and self.scope" in send
    assert "if num_bytes > self.expected_content_length:" in send
    assert "if self.expected_content_length != 0:" in send


def test_the_cycle_answers_100_on_the_first_receive_only():
    """edge/transports/http.py judges key, type and size before it; EdgeProtocol turns it off for HTTP/1.0."""
    receive = source(RequestResponseCycle.receive)
    assert receive.index("if self.waiting_for_100_continue") < receive.index("self.message_event.wait()")
    assert "self.flow.resume_reading()" in receive
    assert (source(httptools_impl).count("100 Continue"), receive.count("100 Continue")) == (1, 1)


def test_a_cycle_that_is_disconnected_sends_nothing_and_receives_that():
    """EdgeProtocol._gone sets `disconnected` and the event."""
    send = source(RequestResponseCycle.send)
    assert send.index("if self.disconnected:\n        return") < send.index("self.transport.write")
    assert 'if self.disconnected or self.response_complete:\n        return {"type": "http.disconnect"}' in source(
        RequestResponseCycle.receive
    )


def test_flow_control_is_what_it_was():
    """Writer takes its first state from `write_paused`; resume_writing frees a send that waits."""
    flow = flow_control.FlowControl
    assert {"read_paused", "write_paused"} <= assigned(flow.__init__)
    for name in ("drain", "pause_reading", "resume_reading", "pause_writing", "resume_writing"):
        assert callable(getattr(flow, name))
    assert flow_control.HIGH_WATER_LIMIT == 65536
    assert httptools_impl.STATUS_LINE[408] == b"HTTP/1.1 408 Request Timeout\r\n"


def test_our_cycle_adds_no_state_that_a_plain_cycle_would_lack():
    assert (
        not assigned(Cycle.send)
        - {"keep_alive", "closes", "_open_ended", "chunked_encoding"}
        - {"expected_content_length"}
    )
    assert "__init__" not in vars(Cycle)


class Heard:
    """Notes the callbacks of a parser."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.calls.append("begin")

    def on_url(self, url: bytes) -> None:
        self.calls.append(f"url {url.decode()}")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.calls.append(f"{name.decode()}={value.decode()}")

    def on_headers_complete(self) -> None:
        self.calls.append("headers")

    def on_body(self, body: bytes) -> None:
        self.calls.append(f"body {body.decode()}")

    def on_message_complete(self) -> None:
        self.calls.append("complete")


def test_httptools_drops_the_body_of_a_request_that_offers_an_upgrade():
    """The reason for EdgeProtocol._feed and its replay; when this fails, both can go."""
    heard = Heard()
    head = b"POST /x HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as upgrade:
        heard.parser.feed_data(head + b"hello")
    assert upgrade.value.args == (len(head),)
    assert heard.calls[-2:] == ["headers", "complete"]
    assert heard.parser.should_upgrade()


def test_a_replayed_head_makes_a_fresh_parser_read_the_same_body():
    for headers, body in (
        ([(b"upgrade", b"h2c"), (b"content-length", b"5")], b"hello"),
        ([(b"transfer-encoding", b"chunked")], b"5\r\nhello\r\n0\r\n\r\n"),
    ):
        heard = Heard()
        heard.parser.feed_data(replayed(headers))
        assert heard.calls[-1] == "headers"
        heard.parser.feed_data(body)
        assert heard.calls[-2:] == ["body hello", "complete"]
    assert replayed([(b"upgrade", b"h2c"), (b"content-length", b"0")]) == b""
    assert replayed([(b"upgrade", b"h2c")]) == b""


def test_an_exception_in_a_parser_callback_is_the_context_of_what_httptools_raises():
    """EdgeProtocol._parse finds our refusals there."""

    class Refuses(Heard):
        def on_header(self, name: bytes, value: bytes) -> None:
            raise LookupError("mine")

    class RefusesUrl(Heard):
        def on_url(self, url: bytes) -> None:
            raise LookupError("mine")

    class RefusesHeaders(Heard):
        def on_headers_complete(self) -> None:
            raise LookupError("mine")

    for kind in (Refuses, RefusesUrl, RefusesHeaders):
        with pytest.raises(httptools.HttpParserCallbackError) as raised:
            kind().parser.feed_data(b"GET / HTTP/1.1\r\na: 1\r\nb: 2\r\n\r\n")
        assert isinstance(raised.value.__context__, LookupError), kind


def test_trailers_come_as_headers():
    """The reason for the phase in EdgeProtocol.on_header."""
    heard = Heard()
    heard.parser.feed_data(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nlate: 1\r\n\r\n")
    assert heard.calls[-3:] == ["body x", "late=1", "complete"]


def test_uvicorn_takes_our_class_as_its_http_protocol():
    limits = ServerLimits(
        max_header_bytes=1,
        max_pipelined_bytes=1,
        header_s=1,
        body_s=1,
        write_high_bytes=1,
        notsent_bytes=1,
        user_timeout_ms=1,
    )
    made = protocol_class(limits)
    config = uvicorn.Config(lambda *_: None, http=made, ws="none", log_config=None)
    config.load()
    assert config.http_protocol_class is made
    assert config.ws_protocol_class is None
    assert issubclass(made, asyncio.Protocol)
