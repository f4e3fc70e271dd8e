"""The one maker of ONNX Runtime sessions: a scripted runtime for what needs a GPU, the real one for the CPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from core_gpu.gpu_session import GpuSessionError, cpu_session, gpu_session
from core_gpu.lease_client import is_out_of_memory

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Runtime:
    """onnxruntime's face, as far as sessions go."""

    def __init__(self, *, available=(CUDA, CPU), starts=True) -> None:
        self.available, self.starts = list(available), starts
        self.asked: list = []
        self.preloaded = 0

    def get_available_providers(self) -> list[str]:
        return self.available

    def preload_dlls(self) -> None:
        self.preloaded += 1

    def InferenceSession(self, source, options, providers):  # noqa: N802
        self.asked.append((source, options, providers))
        names = [entry if isinstance(entry, str) else entry[0] for entry in providers]
        return SimpleNamespace(get_providers=lambda: names if self.starts else [CPU])


def lease(**fields) -> SimpleNamespace:
    return SimpleNamespace(**{"held": True, "gpu": "GPU-abcdef", "gpu_index": 1, "mb": 2_048, **fields})


def test_the_arena_cannot_outgrow_the_lease():
    runtime = Runtime()
    gpu_session(b"model", lease(), overhead_mb=548, runtime=runtime, environment={})
    ((_, _, providers),) = runtime.asked
    assert providers == [
        (
            CUDA,
            {
                "device_id": 1,
                "gpu_mem_limit": 1_500 * 1024 * 1024,
                "arena_extend_strategy": "kSameAsRequested",
                "cudnn_conv_use_max_workspace": "0",
            },
        ),
        CPU,
    ]


@pytest.mark.parametrize(("visible", "device"), [("GPU-abc", 0), ("0,1", 1), ("GPU-zzzz, GPU-abcdef", 1)])
def test_cuda_numbers_what_it_sees(visible, device):
    runtime = Runtime()
    gpu_session(b"m", lease(), runtime=runtime, environment={"CUDA_VISIBLE_DEVICES": visible})
    assert runtime.asked[0][2][0][1]["device_id"] == device


@pytest.mark.parametrize(
    ("given", "runtime", "environment", "words"),
    [
        ({"held": False}, Runtime(), {}, "acquire one first"),
        ({"mb": 512}, Runtime(), {}, "leaves nothing beside 512 MiB"),
        ({}, Runtime(available=[CPU]), {}, "this onnxruntime has no CUDA"),
        ({}, Runtime(starts=False), {}, "fell back to the CPU"),
        ({}, Runtime(), {"CUDA_VISIBLE_DEVICES": "GPU-other"}, "CUDA_VISIBLE_DEVICES shows only GPU-other"),
    ],
)
def test_what_would_not_run_under_the_lease_is_refused(given, runtime, environment, words):
    with pytest.raises(GpuSessionError, match=words):
        gpu_session(b"m", lease(**given), runtime=runtime, environment=environment)


def test_a_real_session_on_the_cpu_needs_no_lease():
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [value("x", onnx.TensorProto.FLOAT, [2])],
        [value("y", onnx.TensorProto.FLOAT, [2])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = cpu_session(made.SerializeToString())
    numpy = pytest.importorskip("numpy")
    (found,) = session.run(None, {"x": numpy.array([1.0, 2.0], dtype=numpy.float32)})
    assert found.tolist() == [2.0, 4.0]


def test_allocators_are_recognised_by_what_they_raise():
    class ResourceExhaustedError(Exception):
        pass

    for error in (
        MemoryError(),
        ResourceExhaustedError("OOM when allocating tensor"),
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
        RuntimeError("CUDA failure 2: out of memory ; GPU=0"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ):
        assert is_out_of_memory(error)
    assert not is_out_of_memory(ValueError("a wrong shape"))


def test_cudas_libraries_are_looked_for_among_the_wheels_and_only_where_cuda_is_wanted():
    runtime = Runtime()
    gpu_session(b"m", lease=lease(), runtime=runtime)
    assert runtime.preloaded == 1
    cpu_session(b"m", runtime=runtime)
    assert runtime.preloaded == 1
