"""The models that are known by name, and reading a size and a format out of the names that engines use."""

from __future__ import annotations

import functools
import re
import tomllib
from importlib import resources
from typing import Final, NamedTuple

import msgspec

from core_gpu.planner.geometry import Geometry, checked
from core_gpu.planner.quants import GGUF, HF
from core_gpu.planner.units import PlanError
from streamkit.ops.settings import nearest

__all__ = ["Known", "Named", "known", "parsed", "resolve"]

_QUANT: Final = re.compile(
    "(?i)(?:^|[-_:./])("
    + "|".join(sorted((*GGUF, *HF, "q4_k", "fp8_dynamic"), key=len, reverse=True))
    + ")(?=$|[-_:./])"
)
#: What engines put behind a model's name, and what changes no tensor's shape.
_NOISE: Final = re.compile(
    r"[-_:.](?:instruct|it|pt|base|chat|text|hf|gguf|latest|w4a16|w8a8|int4|dynamic|v1|2507|thinking|abliterated)(?=$|[-_:.])"
)


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of the table."""

    name: str
    aliases: tuple[str, ...]
    #: As published with the weights.
    parameters: int
    geometry: Geometry


class Named(NamedTuple):
    """What a model's name says."""

    geometry: Geometry
    #: None = the name does not say.
    quant: str | None


@functools.cache
def known() -> tuple[Known, ...]:
    """Return the table `models.toml`."""
    text = resources.files("core_gpu.planner").joinpath("models.toml").read_text(encoding="utf-8")
    found = []
    for entry in tomllib.loads(text)["models"]:
        shape = {key: value for key, value in entry.items() if key not in ("aliases", "parameters")}
        shape["source"] = f"https://huggingface.co/{entry['source'].partition(' ')[0]}"
        geometry = checked(msgspec.convert(shape, Geometry), f"models.toml: {entry['name']}")
        found.append(Known(entry["name"], tuple(entry["aliases"]), entry["parameters"], geometry))
    return tuple(found)


def resolve(name: str, option: str = "--model") -> Named:
    """Return what is known of `name`: `llama-3.1-8b`, `llama3.1:8b-instruct-q4_K_M`, `meta-llama/Llama-3.1-8B`.

    Raises:
        PlanError: nothing is known under it.
    """
    found = parsed(name)
    if found is None:
        names = [entry.name for entry in known()]
        raise PlanError(
            f"{option}: no model {name[:60]!r} in the table{nearest(name.lower(), names)};"
            f" there is: {', '.join(names)}; or give its shape: --config-json, --gguf, or --layers, --hidden …"
        )
    return found


def parsed(name: str) -> Named | None:
    """Return what is known of `name`, or None."""
    text = name.strip().lower().rsplit("/", 1)[-1]
    quant = None
    if found := _QUANT.search(text):
        quant = found[1].lower()
        text = text[: found.start()] + text[found.end() :]
    text = text.removesuffix(".gguf")
    while (shorter := _NOISE.sub("", text)) != text:
        text = shorter
    text = text.removesuffix("-gguf")
    for entry in known():
        if text == entry.name or text in entry.aliases or text.replace(":", "-") == entry.name:
            return Named(entry.geometry, {"q4_k": "q4_k_m", "fp8_dynamic": "fp8"}.get(quant or "", quant))
    return None
