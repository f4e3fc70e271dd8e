"""What an engine's refusal means: the table that says whether to try another backend, and what the client is told.

Read off captured engines (facts: captures/README.md): a draining vLLM answers 500 "cannot schedule new futures", a
full one 503 without Retry-After, a loading llama-server 503; 401 and 403 are *our* credentials being wrong, so the
client sees 502; any other 4xx is a verdict on the request and goes to the client as the engine wrote it.
"""

from __future__ import annotations

from typing import NamedTuple

from streamkit.wire.errors import BAD_INPUT, Code, HeadraceError
from streamkit.wire.openai import error_of, payload_of

__all__ = ["Verdict", "verdict", "verdict_of_break", "verdict_of_frame"]


#: A model can be unloaded in one place and served in another.
_ELSEWHERE = frozenset({Code.NOT_FOUND, Code.MODEL_NOT_FOUND})


class Verdict(NamedTuple):
    """What to do about a refusal."""

    retry: bool  #: another candidate may do better
    blame: bool  #: counts against the backend's breaker
    error: HeadraceError | None  #: what the client is told when nobody else can help; None = the engine's own body
    status: int  #: HTTP status for the client

    @property
    def kind(self) -> str:
        """A word for it in metrics: one of our codes, or the engine's own status."""
        return self.error.code.value if self.error is not None else str(self.status)


def verdict(backend: str, status: int, body: bytes) -> Verdict:
    """Judge an HTTP refusal.

    Args:
        backend: its name, for the message.
        status: what the engine answered; not 2xx.
        body: the engine's body, possibly cut to a bound.
    """
    found = error_of(body, event=False)
    said = f": {found.message[:300]}" if found and found.message else ""
    if status in (401, 403):
        message = f"The backend {backend} refused the gateway's credentials; check its api_key_env."
        return _ours(Code.BACKEND_ERROR, message, retry=True, blame=True)
    if status in (404, 501):
        # The model may have been unloaded there, or the engine cannot do such work; another backend may.
        return Verdict(retry=True, blame=False, error=None, status=status)
    if status in (408, 429):
        return _ours(Code.SATURATED, f"The backend {backend} is saturated{said}", retry=True, blame=False)
    if 400 <= status < 500:
        return Verdict(retry=False, blame=False, error=None, status=status)
    if status == 503:
        return _ours(Code.SATURATED, f"The backend {backend} takes no more work now{said}", retry=True, blame=False)
    message = f"The backend {backend} failed with HTTP {status}{said}"
    return _ours(Code.BACKEND_ERROR, message, retry=True, blame=True)


def verdict_of_frame(backend: str, event: bytes) -> Verdict:
    """Judge an error frame that came before any first event: a refusal in disguise.

    vLLM answers 200 before it has looked at the request (facts: c08b_bad_schema_stream), so a 4xx can arrive so.
    """
    found = error_of(event, event=True)
    status = found.code if found and found.code and 400 <= found.code < 600 else 500
    return verdict(backend, status, payload_of(event).strip())


def verdict_of_break(backend: str, error: HeadraceError | None, *, stale: bool, unfit: bool = False) -> Verdict:
    """Judge a connection that failed before any first event.

    Args:
        backend: its name, for the message.
        error: what broke.
        stale: a pooled connection that the engine had closed, which is nobody's fault.
        unfit: the request cannot be put to this engine; another may take it.
    """
    if error is None:
        error = HeadraceError(Code.BACKEND_ERROR, f"The backend {backend} failed.")
    if error.code is Code.OUT_OF_MEMORY:
        # Our own memory: another backend's answer would not fit either.
        return Verdict(False, False, error, error.wire.status)
    if unfit:
        return Verdict(True, False, error, error.wire.status)
    if error.code in BAD_INPUT and error.code not in _ELSEWHERE:
        return Verdict(False, False, error, error.wire.status)
    if error.code in _ELSEWHERE or error.code in (Code.SATURATED, Code.NO_BACKEND):
        # Unloaded there, or full: no word on its health.
        return Verdict(True, False, error, error.wire.status)
    if error.code is Code.STREAM_BROKEN:
        error = HeadraceError(Code.BACKEND_ERROR, error.message)
    return Verdict(True, not stale, error, error.wire.status)


def _ours(code: Code, message: str, *, retry: bool, blame: bool) -> Verdict:
    error = HeadraceError(code, message)
    return Verdict(retry, blame, error, error.wire.status)


def verdict_of_no_event(backend: str, content_type: bytes | None) -> Verdict:
    """Judge a stream that never became one.

    Args:
        backend: its name.
        content_type: of what came in place of an event stream; None = an event stream that ended without an event.
    """
    text = f"The backend {backend} ended its stream before the first event."
    if content_type is not None:
        kind = content_type.decode("latin-1") or "nothing"
        text = f"The backend {backend} answered a stream request with {kind} instead of text/event-stream."
    return _ours(Code.BACKEND_ERROR, text, retry=True, blame=True)
