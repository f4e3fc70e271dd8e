r"""Takes the schemas beside it out of the packages that carry them; what it makes is checked in.

    uv run --no-project --with check-jsonschema==0.39.0 --with kubernetes-validate==1.37.0 \
        --with xds-protos==1.85.0 python docker/schemas/take.py

Compose's is copied byte for byte. Of Kubernetes' the kinds that docker/k8s uses are kept, with what they refer to,
without descriptions. Of Envoy's the files of the messages that docker/ingress/envoy.yaml names, and those that they
need.
"""
# ruff: noqa: INP001  a script, in no package

from __future__ import annotations

import gzip
import importlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
#: The oldest that has sidecars on by default.
VERSION: Final = "1.29"
KINDS: Final = (
    "v1/ConfigMap", "v1/Namespace", "v1/PersistentVolumeClaim", "v1/Secret", "v1/Service", "apps/v1/Deployment",
    "apps/v1/StatefulSet", "autoscaling/v2/HorizontalPodAutoscaler", "networking.k8s.io/v1/NetworkPolicy",
    "policy/v1/PodDisruptionBudget",
)  # fmt: skip
ENVOY: Final = (
    "envoy.config.bootstrap.v3.bootstrap_pb2",
    "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2",
    "envoy.extensions.filters.http.router.v3.router_pb2",
    "envoy.extensions.upstreams.http.v3.http_protocol_options_pb2",
)
_REF: Final = "#/$defs/"


def main() -> None:
    """Write all files."""
    _envoy()
    compose = (files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_bytes()
    (HERE / "compose-spec.json").write_bytes(compose)
    folder = files("kubernetes_validate") / f"kubernetes-json-schema/v{VERSION}.0-local-strict"
    given: dict[str, Any] = json.loads((folder / "_definitions.json").read_text())["$defs"]
    named = {kind: name for name, schema in given.items() for kind in _kinds(schema)}
    kept: dict[str, Any] = {}
    waiting = [named[kind] for kind in KINDS]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = _bare(given[name])
            waiting += _referred(kept[name])
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Kubernetes {VERSION}, Apache-2.0, cut by take.py; see README.md",
        "kinds": {kind: _REF + named[kind] for kind in KINDS},
    }
    # A line for each definition: a newer version is a diff that can be read.
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(kept[name])}" for name in sorted(kept))
    text = json.dumps(head, indent=1)[:-2] + f',\n "$defs": {{\n{lines}\n}}\n}}\n'
    (HERE / f"kubernetes-{VERSION}.json").write_text(text)


def _envoy() -> None:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415  of the package's own environment

    kept: dict[str, Any] = {}

    def keep(file: Any) -> None:
        for needed in file.dependencies:
            keep(needed)
        kept.setdefault(file.name, file)

    for name in ENVOY:
        keep(importlib.import_module(name).DESCRIPTOR)
    found = FileDescriptorSet()
    for file in kept.values():
        file.CopyToProto(found.file.add())
    (HERE / "envoy-v3.binpb.gz").write_bytes(gzip.compress(found.SerializeToString(deterministic=True), mtime=0))


def _kinds(schema: dict[str, Any]) -> list[str]:
    return [
        "/".join(filter(None, (each["group"], each["version"], each["kind"])))
        for each in schema.get("x-kubernetes-group-version-kind", ())
    ]


def _bare(value: Any) -> Any:
    """Return a schema without its descriptions; a property may have that name, and stays."""
    if isinstance(value, dict):
        return {
            key: _bare(inner)
            for key, inner in value.items()
            if not (key == "description" and isinstance(inner, str)) and not key.startswith("x-")
        }
    return [_bare(inner) for inner in value] if isinstance(value, list) else value


def _referred(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"].removeprefix(_REF)] if isinstance(value.get("$ref"), str) else []
        return own + [name for inner in value.values() for name in _referred(inner)]
    return [name for inner in value for name in _referred(inner)] if isinstance(value, list) else []


if __name__ == "__main__":
    main()
