"""Predictions as JSON, in the format of their request."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from edge.protocol.malformed import MalformedError
from edge.protocol.predict.answer import answer
from edge.protocol.predict.dtypes import DTYPES, pack, unpack
from edge.protocol.predict.tensors import Tensor
from streamkit.wire.errors import HeadraceError


def floats(shape: tuple[int, ...], *values: float) -> Tensor:
    return Tensor(1, shape, struct.pack(f"<{len(values)}f", *values))


def said(outputs: dict[str, Tensor], *, row: bool) -> Any:
    return json.loads(answer(outputs, row=row))


def test_one_output_stands_alone():
    outputs = {"y": floats((3,), 2.5, 3.0, 4.5)}
    assert said(outputs, row=True) == {"predictions": [2.5, 3.0, 4.5]}
    assert said(outputs, row=False) == {"outputs": [2.5, 3.0, 4.5]}


def test_several_stand_by_name():
    outputs = {"s": floats((2,), 1, 2), "label": Tensor(7, (2,), strings=(b"a", b"b"))}
    assert said(outputs, row=True) == {"predictions": [{"s": 1.0, "label": "a"}, {"s": 2.0, "label": "b"}]}
    assert said(outputs, row=False) == {"outputs": {"s": [1.0, 2.0], "label": ["a", "b"]}}


def test_shapes():
    assert said({"y": floats((2, 1, 2), 1, 2, 3, 4)}, row=False) == {"outputs": [[[1.0, 2.0]], [[3.0, 4.0]]]}
    assert said({"y": floats((), 5)}, row=False) == {"outputs": 5.0}
    assert said({"y": floats((0,))}, row=True) == {"predictions": []}
    assert said({"y": floats((2, 0))}, row=True) == {"predictions": [[], []]}
    assert said({"y": floats((2, 0, 3))}, row=True) == {"predictions": [[], []]}


def test_binary_is_base64_by_name_or_by_need():
    binary = Tensor(7, (1,), strings=(b"a",))
    assert said({"y_bytes": binary}, row=True) == {"predictions": [{"b64": "YQ=="}]}
    assert said({"y": Tensor(7, (1,), strings=(b"\xff",))}, row=True) == {"predictions": [{"b64": "/w=="}]}


def test_what_json_has_no_number_for_is_written_as_tensorflow_serving_writes_it():
    values = floats((3,), float("nan"), float("inf"), float("-inf"))
    assert answer({"y": values}, row=True) == b'{"predictions":[NaN,Infinity,-Infinity]}'


@pytest.mark.parametrize("outputs", [{"y": floats((), 5)}, {"y": floats((1,), 5), "z": floats((2,), 5, 6)}])
def test_no_rows_where_there_are_none(outputs):
    with pytest.raises(HeadraceError, match="ask with `inputs`"):
        answer(outputs, row=True)


@pytest.mark.parametrize("tensor", [floats((3,), 1), Tensor(1, (1,), b"abc"), Tensor(21, (1,)), Tensor(7, (2,))])
def test_a_tensor_that_does_not_fill_its_shape(tensor):
    with pytest.raises(MalformedError):
        answer({"y": tensor}, row=False)


@pytest.mark.parametrize(
    "dtype", [dtype for dtype in DTYPES.values() if dtype.kind != "string"], ids=lambda d: d.name
)
def test_every_type_goes_there_and_back(dtype):
    values: list[Any] = {"float": [0.5, -2.0, 0.0], "int": [0, 1, 100], "bool": [True, False, True]}[dtype.kind]
    assert unpack(dtype, pack(dtype, values)) == values


def test_bfloat16_rounds_to_nearest_even():
    bfloat16 = DTYPES[14]
    assert unpack(bfloat16, pack(bfloat16, [1.0 + 2**-8, 1.0 + 3 * 2**-8])) == [1.0, 1.0 + 2**-6]
    (nan,) = unpack(bfloat16, pack(bfloat16, [float("nan")]))
    assert nan != nan  # noqa: PLR0124
