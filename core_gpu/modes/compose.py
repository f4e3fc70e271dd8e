"""A Compose override with the plan's flags and environment, to lie beside the file that names images and volumes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core_gpu.modes.parts import EnginePlan
from core_gpu.modes.plan import ModesPlan

__all__ = ["compose", "document"]


def compose(plan: ModesPlan) -> str:
    """Return the override as YAML."""
    heading = (
        f"# Mode {plan.mode}{f', {plan.partition}' if plan.partition else ''}, by headrace plan modes. {plan.note}."
    )
    return "\n".join([heading, *_yaml(document(plan), 0)]) + "\n"


def document(plan: ModesPlan) -> dict[str, Any]:
    """Return the override; `schemas/compose.schema.json` is the part of the Compose format that it uses."""
    services, configs = {}, {}
    for engine in plan.engines:
        service: dict[str, Any] = {"environment": dict(engine.environment)}
        # Inside a container an address is the container's own: it listens everywhere, and is published where asked.
        command = ["0.0.0.0" if part == engine.host else part for part in engine.command]  # noqa: S104
        if "OLLAMA_HOST" in service["environment"]:
            service["environment"]["OLLAMA_HOST"] = f"0.0.0.0:{engine.port}"
        if command:
            service["command"] = _arguments(engine, command)
        # The inference server stays on loopback without certificates, and nothing that is published leads there.
        if engine.engine != "inference":
            ports = [engine.port, engine.port + 1] if engine.engine == "tfserving" else [engine.port]
            service["ports"] = [f"{engine.host}:{port}:{port}" for port in ports]
        device = engine.environment["CUDA_VISIBLE_DEVICES"]
        reserved = {"driver": "nvidia", "device_ids": [device], "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [reserved]}}}
        if not device.startswith("MIG-"):
            # A container that is given one device sees it as its first.
            service["environment"]["CUDA_VISIBLE_DEVICES"] = "0"
        # Our inference server reads its bounds from headrace.toml; the file is for a session of somebody's own, and
        # Compose puts none into a container whose root cannot be written.
        files = {} if engine.engine == "inference" else engine.files
        for number, (path, content) in enumerate(files.items()):
            name = f"{engine.name}-{number}"
            configs[name] = {"content": content}
            service.setdefault("configs", []).append({"source": name, "target": path})
        services[engine.name] = service
    return {"services": services, **({"configs": configs} if configs else {})}


def _arguments(engine: EnginePlan, command: Sequence[str]) -> list[str]:
    """Return what follows the image's own entry point, which names the program."""
    if engine.engine == "vllm":
        return list(command[2:])
    return list(command[1:])


def _yaml(value: Any, depth: int) -> list[str]:
    """Write mappings and lists in block style and every scalar as JSON, which YAML reads alike."""
    lead = "  " * depth
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, Mapping | list) and inner:
                lines += [f"{lead}{key}:", *_yaml(inner, depth + 1)]
            else:
                lines.append(f"{lead}{key}: {json.dumps(inner)}")
    else:
        for item in value:
            if isinstance(item, Mapping):
                first, *rest = _yaml(item, depth + 1)
                lines += [f"{lead}- {first.strip()}", *rest]
            else:
                lines.append(f"{lead}- {json.dumps(item)}")
    return lines
