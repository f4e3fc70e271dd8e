"""The committed schemas of Compose, of Kubernetes' API and of Envoy's (docker/schemas)."""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import Any

import jsonschema
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from tests.unit.docker.dockerfile import ROOT

HERE = ROOT / "docker/schemas"


@cache
def _compose() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((HERE / "compose-spec.json").read_text()))


@cache
def _kubernetes(kind: str) -> jsonschema.Draft202012Validator:
    found = json.loads((HERE / "kubernetes-1.29.json").read_text())
    assert kind in found["kinds"], f"docker/schemas has no {kind}: add it to take.py"
    return jsonschema.Draft202012Validator({"$ref": found["kinds"][kind], "$defs": found["$defs"]})


def compose(document: dict[str, Any]) -> None:
    """Hold a Compose file against the specification; jsonschema.ValidationError says where it is none."""
    _compose().validate(document)


def kubernetes(document: dict[str, Any]) -> None:
    """Hold a manifest against the API; jsonschema.ValidationError says where it is none."""
    _kubernetes(f"{document['apiVersion']}/{document['kind']}").validate(document)


@cache
def _envoy() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(gzip.decompress((HERE / "envoy-v3.binpb.gz").read_bytes())).file:
        pool.Add(file)
    return pool


def envoy(document: dict[str, Any]) -> None:
    """Hold a bootstrap file against Envoy's API; json_format.ParseError says where it is none."""
    pool = _envoy()
    bootstrap = GetMessageClass(pool.FindMessageTypeByName("envoy.config.bootstrap.v3.Bootstrap"))
    json_format.ParseDict(document, bootstrap(), descriptor_pool=pool)
