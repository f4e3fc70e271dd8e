"""What the scripted backend answers where no case has written a script: a small, well-behaved engine."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from loadtest.conform import chunks

if TYPE_CHECKING:
    from loadtest.conform.exchange import Exchange

__all__ = ["answer"]

_WORDS: Final = ("A", "gateway", "hands", "on", "what", "it", "gets", "and", "says", "when", "it", "cannot", ".")
_PACE_S: Final = 0.002


async def answer(exchange: Exchange, model: str) -> None:
    """Answer like an engine: health, models, chat; errors in vLLM's shape."""
    if exchange.path.startswith("/health"):
        await exchange.answer(200, b"")
    elif exchange.path.endswith("/models"):
        listed = {"object": "list", "data": [{"id": model, "object": "model", "owned_by": "conform"}]}
        body = json.dumps(listed).encode()
        if exchange.method == "HEAD":
            await exchange.head(200, content_type="application/json", content_length=str(len(body)))
        else:
            await exchange.answer(200, body)
    elif exchange.path.endswith("/chat/completions"):
        await _chat(exchange, model)
    else:
        await exchange.answer(404, b'{"detail":"Not Found"}')


async def _chat(exchange: Exchange, model: str) -> None:
    if exchange.method != "POST":
        await exchange.answer(405, b'{"detail":"Method Not Allowed"}', allow="POST")
        return
    asked = exchange.json
    if not asked:
        await exchange.answer(400, chunks.error("the body is no JSON object", 400))
    elif not isinstance(asked.get("messages"), list):
        await exchange.answer(400, chunks.error("Field required", 400, param="messages"))
    elif asked.get("model") not in (model, None):
        found = chunks.error(f"The model `{asked['model']}` does not exist.", 404, "NotFoundError", "model")
        await exchange.answer(404, found)
    elif not asked.get("stream"):
        await exchange.answer(200, chunks.completion("chatcmpl-plain", " ".join(_WORDS)))
    else:
        await _stream(exchange)


async def _stream(exchange: Exchange) -> None:
    id_ = "chatcmpl-plain"
    await exchange.stream()
    await exchange.send(chunks.role(id_))
    for word in _WORDS:
        await exchange.send(chunks.delta(id_, f"{word} "))
        await asyncio.sleep(_PACE_S)
    await exchange.send(chunks.finish(id_))
    if exchange.usage_asked:
        await exchange.send(chunks.usage(id_))
    await exchange.send(chunks.DONE)
    await exchange.end()
