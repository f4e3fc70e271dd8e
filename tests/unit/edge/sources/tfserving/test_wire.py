"""TensorFlow's messages, in every form that a server may choose, and those that must not hurt us."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from edge.protocol.malformed import MalformedError
from edge.protocol.predict.dtypes import DTYPES, unpack
from edge.protocol.predict.request import Target
from edge.protocol.predict.tensors import Spec, Tensor
from edge.sources.tfserving.wire import proto_of, signatures, spec_of, tensor_of_proto
from streamkit.wire.pb import tfserving_pb2 as pb


def proto(dtype: int, shape: list[int], **elements: Any) -> pb.TensorProto:
    dims = [pb.TensorShapeProto.Dim(size=size) for size in shape]
    return pb.TensorProto(dtype=dtype, tensor_shape=pb.TensorShapeProto(dim=dims), **elements)


def values(message: pb.TensorProto) -> list[Any]:
    tensor = tensor_of_proto("y", message)
    return unpack(DTYPES[tensor.dtype], tensor.content)


TYPED = [
    (proto(pb.DT_FLOAT, [2], float_val=[0.5, 2]), [0.5, 2.0]),
    (proto(pb.DT_DOUBLE, [1], double_val=[0.1]), [0.1]),
    (proto(pb.DT_INT32, [2], int_val=[-1, 1]), [-1, 1]),
    (proto(pb.DT_UINT8, [1], int_val=[255]), [255]),
    (proto(pb.DT_INT8, [1], int_val=[-128]), [-128]),
    (proto(pb.DT_UINT16, [1], int_val=[65535]), [65535]),
    (proto(pb.DT_INT64, [1], int64_val=[1 << 62]), [1 << 62]),
    (proto(pb.DT_UINT32, [1], uint32_val=[1 << 31]), [1 << 31]),
    (proto(pb.DT_UINT64, [1], uint64_val=[1 << 63]), [1 << 63]),
    (proto(pb.DT_BOOL, [2], bool_val=[True, False]), [True, False]),
    (proto(pb.DT_HALF, [1], half_val=[0x3800]), [0.5]),
    (proto(pb.DT_BFLOAT16, [1], half_val=[0x3F00]), [0.5]),
    (proto(pb.DT_FLOAT, [2], tensor_content=struct.pack("<2f", 1, 2)), [1.0, 2.0]),
    # The last element stands for those that are missing (tensor.proto).
    (proto(pb.DT_FLOAT, [2, 2], float_val=[1, 7]), [1.0, 7.0, 7.0, 7.0]),
    (proto(pb.DT_INT64, [0]), []),
]


@pytest.mark.parametrize(("message", "told"), TYPED)
def test_elements_in_every_form(message, told):
    assert values(message) == told


def test_strings():
    message = proto(pb.DT_STRING, [3], string_val=[b"a", b"\xff"])
    assert tensor_of_proto("y", message).strings == (b"a", b"\xff", b"\xff")


@pytest.mark.parametrize(
    "message",
    [
        proto(pb.DT_FLOAT, [-1], float_val=[1]),
        pb.TensorProto(dtype=pb.DT_FLOAT, tensor_shape=pb.TensorShapeProto(unknown_rank=True)),
        proto(pb.DT_FLOAT, [1 << 40], float_val=[1]),
        proto(pb.DT_FLOAT, [1 << 20, 1 << 20, 1 << 20], float_val=[1]),
        proto(pb.DT_FLOAT, [1 << 40, 0]),
    ],
    ids=["negative", "unknown", "one element repeated for ever", "overflow", "lists without elements"],
)
def test_a_shape_must_be_one_that_we_can_hold(message):
    with pytest.raises(MalformedError):
        tensor_of_proto("y", message)


def test_a_tensor_that_we_send():
    sent = proto_of(Tensor(1, (2, 1), struct.pack("<2f", 1, 2)))
    assert (sent.dtype, [dim.size for dim in sent.tensor_shape.dim]) == (pb.DT_FLOAT, [2, 1])
    assert tensor_of_proto("x", pb.TensorProto.FromString(sent.SerializeToString())).content == struct.pack(
        "<2f", 1, 2
    )
    text = proto_of(Tensor(7, (1,), strings=(b"\xff",)))
    assert (text.dtype, list(text.string_val)) == (pb.DT_STRING, [b"\xff"])


def test_which_model_is_meant():
    assert spec_of(Target("m", 3)).version.value == 3
    assert spec_of(Target("m", None, "canary")).version_label == "canary"
    latest = spec_of(Target("m"), "s")
    assert (latest.name, latest.signature_name, latest.WhichOneof("version_choice")) == ("m", "s", None)


def test_signatures():
    info = pb.TensorInfo(dtype=pb.DT_FLOAT, tensor_shape=pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=-1)]))
    anything = pb.TensorInfo(dtype=pb.DT_STRING, tensor_shape=pb.TensorShapeProto(unknown_rank=True))
    told = pb.SignatureDefMap(signature_def={"s": pb.SignatureDef(inputs={"x": info, "t": anything})})
    answer = pb.GetModelMetadataResponse()
    answer.metadata["signature_def"].Pack(told)
    # The name that a real server packs it under.
    assert answer.metadata["signature_def"].type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    assert signatures(answer) == {"s": {"x": Spec("x", 1, (None,)), "t": Spec("t", 7, None)}}


def test_metadata_without_signatures():
    with pytest.raises(MalformedError):
        signatures(pb.GetModelMetadataResponse())
    broken = pb.GetModelMetadataResponse()
    broken.metadata["signature_def"].type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    broken.metadata["signature_def"].value = b"\xff\xff"
    with pytest.raises(MalformedError):
        signatures(broken)


#: Field numbers of the published protos, by message; the wire is nothing else.
NUMBERS = {
    pb.TensorProto: {
        "dtype": 1, "tensor_shape": 2, "version_number": 3, "tensor_content": 4, "float_val": 5, "double_val": 6,
        "int_val": 7, "string_val": 8, "int64_val": 10, "bool_val": 11, "half_val": 13, "uint32_val": 16,
        "uint64_val": 17,
    },
    pb.TensorShapeProto: {"dim": 2, "unknown_rank": 3},
    pb.TensorInfo: {"name": 1, "dtype": 2, "tensor_shape": 3},
    pb.SignatureDef: {"inputs": 1, "outputs": 2, "method_name": 3},
    pb.ModelSpec: {"name": 1, "version": 2, "signature_name": 3, "version_label": 4},
    pb.PredictRequest: {"model_spec": 1, "inputs": 2, "output_filter": 3},
    pb.PredictResponse: {"outputs": 1, "model_spec": 2},
    pb.GetModelMetadataRequest: {"model_spec": 1, "metadata_field": 2},
    pb.GetModelMetadataResponse: {"model_spec": 1, "metadata": 2},
    pb.ModelVersionStatus: {"version": 1, "state": 2, "status": 3},
    pb.ModelServerConfig: {"model_config_list": 1, "custom_model_config": 2},
    pb.ModelConfig: {"name": 1, "base_path": 2, "model_platform": 4, "version_labels": 8},
    pb.ReloadConfigRequest: {"config": 1},
}  # fmt: skip


@pytest.mark.parametrize("message", NUMBERS, ids=lambda message: message.DESCRIPTOR.name)
def test_field_numbers_are_those_of_the_published_protos(message):
    assert {field.name: field.number for field in message.DESCRIPTOR.fields} == NUMBERS[message]
