"""`x-ratelimit-*` headers and their durations, as OpenAI writes them (facts: streaming-conventions §5.3)."""

from __future__ import annotations

__all__ = ["duration", "rate_headers"]


def duration(milliseconds: int) -> str:
    """Return a time as `12ms`, `1.5s`, `6m0s` or `1h0m0.25s`."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def rate_headers(kind: str, *, limit: int, remaining: int, reset_ms: int) -> list[tuple[bytes, bytes]]:
    """Return the three headers of one rate.

    Args:
        kind: `requests` or `tokens`.
        limit: for each minute.
        remaining: what would be let through at once now.
        reset_ms: until all of that is there again, in milliseconds.
    """
    values = {"limit": str(limit), "remaining": str(remaining), "reset": duration(reset_ms)}
    return [(f"x-ratelimit-{name}-{kind}".encode(), value.encode()) for name, value in values.items()]
