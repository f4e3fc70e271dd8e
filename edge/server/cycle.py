"""One request and its response: uvicorn's cycle, with endings that a client can always read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from edge.server.refusal import Headers, name_of, refusal_headers
from streamkit.wire.errors import Code, HeadraceError

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

__all__ = ["Cycle"]


class Cycle(RequestResponseCycle):
    """What uvicorn's cycle does, and more.

    - a response to HTTP/1.0, which knows no chunks, ends with the connection when it has no length;
    - a response before the request was whole says `connection: close`;
    - closing is left to the protocol, which knows whether unread bytes would turn the close into a reset;
    - a failed application is answered by an OpenAI envelope.
    """

    #: Told to the protocol with the end of the response: close the connection.
    closes = False
    _open_ended = False

    async def send(self, message: ASGISendEvent) -> None:
        """Send one ASGI message."""
        if message["type"] == "http.response.start":
            if self.more_body:
                self.keep_alive = False
            if self.scope["http_version"] == "1.0" and not _has_length(message.get("headers", ())):
                self._open_ended = True
                self.chunked_encoding = False
        elif message["type"] == "http.response.body" and self.response_started:
            if self._open_ended:
                self.expected_content_length = len(message.get("body", b""))
            if not self.keep_alive and not message.get("more_body", False):
                self.closes = self.keep_alive = True
        await super().send(message)

    async def send_500_response(self) -> None:
        """Answer for an application that raised."""
        name = name_of(self.scope["headers"])
        self.logger.error("request %s failed inside the gateway", name.decode())
        error = HeadraceError(Code.INTERNAL, "The gateway failed while it served this request.")
        body = error.envelope()
        headers = refusal_headers(error, body, name)
        await self.send({"type": "http.response.start", "status": error.wire.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def _has_length(headers: Headers) -> bool:
    return any(name.lower() == b"content-length" for name, _ in headers)
