"""Prediction requests: JSON into tensors, and every refusal names its place."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from edge.protocol.predict.request import Target, read, target_of, tensors_of
from edge.protocol.predict.tensors import Spec, Tensor
from streamkit.wire.errors import Code, HeadraceError

FLOAT, INT32, STRING, INT64, BOOL = 1, 3, 7, 9, 10
X = {"x": Spec("x", FLOAT, (None,))}
PAIR = {"a": Spec("a", FLOAT, (None, 2)), "b": Spec("b", INT64, (None,))}
TEXTS = {"t": Spec("t", STRING, (None,))}


def tensors(body: Any, specs: dict[str, Spec]) -> dict[str, Tensor]:
    return tensors_of(read(body if isinstance(body, bytes) else json.dumps(body).encode()), specs)


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def test_rows_of_the_only_input():
    assert tensors({"instances": [1.0, 2, 5]}, X) == {"x": Tensor(FLOAT, (3,), floats(1, 2, 5))}


def test_rows_of_named_inputs():
    body = {"instances": [{"a": [1, 2], "b": 3}, {"b": 6, "a": [4, 5]}]}
    assert tensors(body, PAIR) == {
        "a": Tensor(FLOAT, (2, 2), floats(1, 2, 4, 5)),
        "b": Tensor(INT64, (2,), struct.pack("<2q", 3, 6)),
    }


def test_columns():
    assert tensors({"inputs": [1, 2]}, X)["x"].shape == (2,)
    assert tensors({"inputs": {"x": [1, 2]}}, X)["x"].shape == (2,)
    body = {"inputs": {"a": [[1, 2]], "b": [3]}}
    assert {name: tensor.shape for name, tensor in tensors(body, PAIR).items()} == {"a": (1, 2), "b": (1,)}


def test_a_scalar_and_an_empty_list():
    assert tensors({"inputs": 5}, {"x": Spec("x", FLOAT, ())})["x"] == Tensor(FLOAT, (), floats(5))
    assert tensors({"inputs": []}, X)["x"] == Tensor(FLOAT, (0,), b"")
    assert tensors({"inputs": [[], []]}, {"x": Spec("x", FLOAT, None)})["x"].shape == (2, 0)


def test_text_and_binary_values():
    body = {"instances": ["ü", {"b64": base64.b64encode(b"\xff").decode()}]}
    assert tensors(body, TEXTS)["t"].strings == ("ü".encode(), b"\xff")
    assert tensors({"inputs": {"b64": "AA=="}}, {"t": Spec("t", STRING, ())})["t"].strings == (b"\0",)
    assert tensors({"instances": [{"t": {"b64": "AA=="}}]}, TEXTS)["t"].strings == (b"\0",)


def test_signature_and_members_that_nobody_knows():
    assert read(b'{"signature_name":"s","instances":[1],"context":{}}').signature == "s"
    assert read(b'{"instances":[1]}').signature == "serving_default"


REFUSED = [
    (b"", X, "body"),
    (b"[1]", X, "body"),
    (b'{"instances": [1', X, "body"),
    (b'{"instances": [NaN]}', X, "body"),
    (b'{"instances": ["\xff"]}', X, "body"),
    (b'{"instances": ' + b"[" * 50_000, X, "body"),
    ({}, X, "instances"),
    ({"instances": [1], "inputs": [1]}, X, "instances"),
    ({"instances": []}, X, "instances"),
    ({"instances": 5}, X, "instances"),
    ({"signature_name": 5, "instances": [1]}, X, "signature_name"),
    ({"instances": [1, "2"]}, X, "instances[1]"),
    ({"instances": [1, True]}, X, "instances[1]"),
    ({"instances": [1, None]}, X, "instances[1]"),
    ({"instances": [1, [2]]}, X, "instances[1]"),
    ({"instances": [[1], [2, 3]]}, X, "instances[1]"),
    ({"instances": [[1], 2]}, X, "instances[1]"),
    ({"instances": [[1], [2]]}, X, "instances"),
    ({"instances": [1e39]}, X, "instances[0]"),
    ({"instances": [{"y": 1}]}, X, "instances[0].y"),
    ({"instances": [{"x": 1}, 2]}, X, "instances[1]"),
    ({"instances": [1]}, PAIR, "instances"),
    ({"inputs": [1]}, PAIR, "inputs"),
    ({"instances": [{"a": [1, 2]}]}, PAIR, "instances[0].b"),
    ({"instances": [{"a": [1, 2], "b": 1}, {"a": [1, "x"], "b": 1}]}, PAIR, "instances[1].a[1]"),
    ({"instances": [{"a": [1, 2], "b": 1}, {"a": [1], "b": 1}]}, PAIR, "instances[1].a"),
    ({"instances": [{"a": [1, 2, 3], "b": 1}]}, PAIR, "instances[].a"),
    ({"instances": [{"a": [1, 2], "b": 1.5}]}, PAIR, "instances[0].b"),
    ({"instances": [{"a": [1, 2], "b": 1 << 70}]}, PAIR, "instances[0].b"),
    ({"inputs": {"a": [[1, 2]], "b": [3], "c": 1}}, PAIR, "inputs.c"),
    ({"inputs": {"a": [[1, 2]]}}, PAIR, "inputs.b"),
    ({"inputs": {"a": [[1, 2]], "b": [[3]]}}, PAIR, "inputs.b"),
    ({"inputs": {"a": [[1, 2], [3, "4"]], "b": [3, 4]}}, PAIR, "inputs.a[1][1]"),
    ({"instances": [5]}, TEXTS, "instances[0]"),
    ({"instances": [{"b64": "%"}]}, TEXTS, "instances[0].b64"),
    ({"instances": ["a"]}, {"t": Spec("t", 21, (None,))}, "instances"),
    ({"instances": [1]}, {}, "instances"),
]


@pytest.mark.parametrize(("body", "specs", "field"), REFUSED)
def test_refusals_name_their_place(body, specs, field):
    with pytest.raises(HeadraceError) as caught:
        tensors(body, specs)
    assert (caught.value.code, caught.value.param) == (Code.INVALID_REQUEST, field)


def test_a_refusal_says_what_was_wanted():
    with pytest.raises(HeadraceError, match=r"has the shape \[1, 3\], and `a` takes \[any, 2\]"):
        tensors({"inputs": {"a": [[1, 2, 3]], "b": [1]}}, PAIR)
    with pytest.raises(HeadraceError, match=r"must be a float, and is a string"):
        tensors({"instances": ["x"]}, X)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/models/m:predict", Target("m")),
        ("/v1/models/a%2Fb:predict", Target("a/b")),
        ("/v1/models/m/versions/3:predict", Target("m", 3)),
        ("/v1/models/m/labels/canary:predict", Target("m", None, "canary")),
        ("/v1/models/m", None),
        ("/v1/models/m:classify", None),
        ("/v1/models/:predict", None),
        ("/v1/models/m/versions/3/x:predict", None),
    ],
)
def test_paths(path, target):
    assert target_of(path) == target


@pytest.mark.parametrize("version", ["x", "-1", "9" * 30, "٣"])
def test_a_version_is_a_number(version):
    with pytest.raises(HeadraceError) as caught:
        target_of(f"/v1/models/m/versions/{version}:predict")
    assert caught.value.param == "version"
