"""Finding the engines of this machine: by what they answer, not by the port that they answer on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from streamkit.ops.http_client import HttpClient, HttpError, Response
from streamkit.wire.backend import Backend, Engine
from streamkit.wire.unreadable import UNREADABLE

__all__ = ["USUAL", "Finding", "find"]

#: Where vLLM, Ollama, llama-server and TensorFlow Serving's REST listen when nobody told them otherwise.
USUAL: Final = (
    *("http://127.0.0.1:8000", "http://127.0.0.1:11434", "http://127.0.0.1:8080", "http://127.0.0.1:8501"),
)
_PROBE_MS: Final = 1_500


@dataclass(frozen=True, slots=True)
class Finding:
    """One address that answered like an engine."""

    #: None = an engine that cannot be used as it stands; `note` says why.
    backend: Backend | None
    #: What it is, for people: `vLLM`, `Ollama`, `llama-server`.
    product: str
    models: tuple[str, ...] = ()
    note: str = ""


async def find(urls: Iterable[str] = USUAL) -> list[Finding]:
    """Return what answers at `urls`, in their order; silence is no finding."""
    async with HttpClient() as http:
        found = await asyncio.gather(*(_look(http, url) for url in urls))
    return [finding for finding in found if finding is not None]


async def _look(http: HttpClient, url: str) -> Finding | None:
    listed = await _ask(http, f"{url}/v1/models")
    if listed is None:
        return None
    if _predicts(await _ask(http, f"{url}/v1/models/headrace")):
        note = (
            f"TensorFlow Serving at {url} does not list its models: name them in a file, with"
            ' engine = "tfserving" and url = "grpc://127.0.0.1:8500", and start with --config'
        )
        return Finding(None, "TensorFlow Serving", note=note)
    if listed.status in (401, 403):
        return Finding(
            None,
            "an engine",
            note=f"{url} wants a key: name it with api_key_env in a file, and start with --config",
        )
    models = _models(listed)
    owners = {model.get("owned_by") for model in models or ()}
    names = tuple(str(model["id"]) for model in models or () if "id" in model)
    # A simulator speaks its engine's language to the letter; this page is its own.
    own = await _ask(http, f"{url}/sim/fault")
    simulated = own is not None and own.status == 200
    if "vllm" in owners:
        return _found(url, "vLLM", "vllm", names, simulated=simulated)
    if "llamacpp" in owners:
        return _found(url, "llama-server", "openai", names, simulated=simulated)
    # Asked last, because llama-server has that page, too.
    tags = await _ask(http, f"{url}/api/tags")
    if tags is not None and tags.status == 200 and isinstance(_json(tags), dict) and "models" in _json(tags):
        if names:
            return _found(url, "Ollama", "ollama", names, simulated=simulated)
        return Finding(None, "Ollama", note=f"Ollama at {url} has no model yet: ollama pull llama3.2")
    if names:
        return _found(url, "OpenAI-compatible", "openai", names)
    return None


def _found(url: str, product: str, engine: Engine, models: tuple[str, ...], *, simulated: bool = False) -> Finding:
    name = {"vLLM": "vllm", "Ollama": "ollama", "llama-server": "llama-server"}.get(product, "openai")
    port = url.rsplit(":", 1)[-1]
    usual = url in USUAL
    backend = Backend(name=name if usual else f"{name}-{port}", engine=engine, url=url, simulated=simulated)
    return Finding(backend, "simulator" if simulated else product, models)


async def _ask(http: HttpClient, url: str) -> Response | None:
    try:
        return await http.get(url, timeout_ms=_PROBE_MS)
    except HttpError:
        return None


def _predicts(response: Response | None) -> bool:
    """Say whether this is TensorFlow Serving's answer for a model that it does not have."""
    return response is not None and response.status == 404 and b"versions of model headrace" in response.body


def _json(response: Response) -> Any:
    try:
        return msgspec.json.decode(response.body)
    except UNREADABLE:
        return None


def _models(response: Response) -> list[dict[str, Any]] | None:
    """Return the models of an OpenAI model list, or None for anything else."""
    body = _json(response) if response.status == 200 else None
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list):
        return None
    return [model for model in data if isinstance(model, dict)]
