"""Any tensor goes through JSON and back; any JSON is a prediction or a refusal that names a place."""

from __future__ import annotations

import json
from math import prod
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.protocol.predict.answer import answer
from edge.protocol.predict.dtypes import DTYPES
from edge.protocol.predict.request import read, tensors_of
from edge.protocol.predict.tensors import Spec, nested
from streamkit.wire.errors import Code, HeadraceError

_RANGES = {"int32": 31, "uint8": 8, "int16": 15, "int8": 7, "int64": 63, "uint16": 16, "uint32": 32, "uint64": 64}
_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(_TEXT | st.sampled_from(["x", "b64"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def elements(name: str, kind: str) -> st.SearchStrategy[Any]:
    if kind == "string":
        return _TEXT
    if kind == "bool":
        return st.booleans()
    if kind == "int":
        low = 0 if name.startswith("u") else -(1 << _RANGES[name])
        return st.integers(low, (1 << _RANGES[name]) - 1)
    width = {"double": 64, "half": 16}.get(name, 32)
    # bfloat16 keeps eight bits of a fraction: small whole numbers survive it.
    if name == "bfloat16":
        return st.integers(-128, 128).map(float)
    return st.floats(width=width, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]


def refusal(body: bytes, specs: dict[str, Spec]) -> HeadraceError | None:
    try:
        tensors_of(read(body), specs)
    except HeadraceError as error:
        return error
    return None


@settings(max_examples=150)
@given(st.data(), st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 3), max_size=3), st.booleans())
def test_any_tensor_goes_there_and_back(data: st.DataObject, code: int, shape: list[int], row: bool) -> None:
    dtype = DTYPES[code]
    if row and (not shape or not shape[0]):
        shape = [2, *shape[1:]]
    # An empty dimension hides those behind it from JSON.
    shape = shape[: shape.index(0) + 1] if 0 in shape else shape
    count = prod(shape)
    values = data.draw(st.lists(elements(dtype.name, dtype.kind), min_size=count, max_size=count))
    value = nested(values, shape)
    body = json.dumps({"instances" if row else "inputs": value}).encode()
    tensor = tensors_of(read(body), {"x": Spec("x", code, None)})["x"]
    assert tensor.shape == tuple(shape)
    told = json.loads(answer({"y": tensor}, row=row))
    assert told == {"predictions" if row else "outputs": value}


@settings(max_examples=300)
@given(
    st.sampled_from(["instances", "inputs"]), _JSON, st.sampled_from(sorted(DTYPES)), st.sampled_from([None, (None,)])
)
def test_any_json_is_taken_or_refused_by_name(member: str, value: Any, code: int, shape: Any) -> None:
    refused = refusal(json.dumps({member: value}).encode(), {"x": Spec("x", code, shape)})
    if refused is not None:
        assert refused.code is Code.INVALID_REQUEST
        assert refused.param
        assert refused.param.startswith(member)


@settings(max_examples=200)
@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda noise: b'{"instances":[' + noise))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    refused = refusal(body, {"x": Spec("x", 1, None)})
    assert refused is None or (refused.code is Code.INVALID_REQUEST and refused.param)
