"""A prediction request: read without its signature, then made into tensors with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from edge.protocol.predict.tensors import Place, Spec, Tensor, refuse, tensor_of
from edge.protocol.request import decoded
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["DEFAULT_SIGNATURE", "Prediction", "Target", "read", "target_of", "tensors_of"]

DEFAULT_SIGNATURE: Final = "serving_default"
_PATH: Final = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[^/:]+)|/labels/(?P<label>[^/:]+))?:predict"
)
_MAX_VERSION: Final = 2**63 - 1


class Target(msgspec.Struct, frozen=True):
    """What a prediction's path names."""

    model: str
    version: int | None = None
    label: str = ""


class Prediction(msgspec.Struct, frozen=True):
    """One request body, its values still JSON."""

    signature: str
    #: `instances`; otherwise the columnar format, `inputs`.
    row: bool
    value: Any


class _Body(msgspec.Struct):
    signature_name: str = DEFAULT_SIGNATURE
    instances: Any = msgspec.UNSET
    inputs: Any = msgspec.UNSET


def target_of(path: str) -> Target | None:
    """Return what a path asks for, or None if it is no prediction's.

    Raises:
        HeadraceError: INVALID_REQUEST; the version is no number.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    version = match["version"]
    if version is not None and (not version.isascii() or not version.isdecimal() or int(version) > _MAX_VERSION):
        raise HeadraceError(Code.INVALID_REQUEST, "The version in the path must be a whole number.", param="version")
    return Target(unquote(match["model"]), None if version is None else int(version), unquote(match["label"] or ""))


def read(body: bytes) -> Prediction:
    """Return the request in `body`; unknown members are passed over, as TensorFlow Serving does.

    Raises:
        HeadraceError: INVALID_REQUEST; it is no JSON object, or has not exactly one of `instances` and `inputs`.
    """
    found = decoded(body, _Body)
    if (found.instances is msgspec.UNSET) == (found.inputs is msgspec.UNSET):
        raise refuse("instances", "or `inputs` is required, and not both")
    if found.inputs is not msgspec.UNSET:
        return Prediction(found.signature_name, False, found.inputs)
    if not isinstance(found.instances, list) or not found.instances:
        raise refuse("instances", "must be a list with at least one instance")
    return Prediction(found.signature_name, True, found.instances)


def tensors_of(prediction: Prediction, specs: Mapping[str, Spec]) -> dict[str, Tensor]:
    """Return the inputs of a prediction, by name.

    Args:
        prediction: as read.
        specs: the signature's inputs.

    Raises:
        HeadraceError: INVALID_REQUEST; names the place in the body.
    """
    if prediction.row:
        return _rows(prediction.value, specs)
    value = prediction.value
    if not _is_named(value):
        only = _only(specs, "inputs")
        return {only.name: tensor_of(value, only, _at("inputs"))}
    _check_names(value, specs, "inputs")
    return {name: tensor_of(value[name], spec, _at(f"inputs.{name}")) for name, spec in specs.items()}


def _rows(instances: list[Any], specs: Mapping[str, Spec]) -> dict[str, Tensor]:
    if not any(map(_is_named, instances)):
        only = _only(specs, "instances")
        return {only.name: tensor_of(instances, only, _at("instances"))}
    for number, instance in enumerate(instances):
        if not _is_named(instance):
            raise refuse(f"instances[{number}]", "must be an object of named inputs, as its neighbours are")
        _check_names(instance, specs, f"instances[{number}]")
    return {
        name: tensor_of([instance[name] for instance in instances], spec, _in_rows(name))
        for name, spec in specs.items()
    }


def _is_named(value: object) -> bool:
    """Say whether a value is an object of named inputs, and not one binary value."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _only(specs: Mapping[str, Spec], field: str) -> Spec:
    if len(specs) != 1:
        raise refuse(field, f"must name its inputs; this signature has {_listed(specs)}")
    return next(iter(specs.values()))


def _check_names(value: Mapping[str, Any], specs: Mapping[str, Spec], at: str) -> None:
    for name in value:
        if name not in specs:
            raise refuse(f"{at}.{name}", f"is no input of this signature, which has {_listed(specs)}")
    for name in specs:
        if name not in value:
            raise refuse(f"{at}.{name}", "is required by this signature")


def _listed(specs: Mapping[str, Spec]) -> str:
    return ", ".join(sorted(specs)) or "none"


def _at(field: str) -> Place:
    def place(index: Sequence[int]) -> str:
        return field + "".join(f"[{number}]" for number in index)

    return place


def _in_rows(name: str) -> Place:
    """The place of an element of a named input: its first index is the instance's."""

    def place(index: Sequence[int]) -> str:
        if not index:
            return f"instances[].{name}"
        return f"instances[{index[0]}].{name}" + "".join(f"[{number}]" for number in index[1:])

    return place
