"""The one place that makes ONNX Runtime sessions: on a GPU only under a lease, bounded by it.

Import-linter lets no other module import onnxruntime, so nothing of ours touches a GPU without asking the arbiter.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = ["GpuSessionError", "UsesGpu", "cpu_session", "gpu_session", "has_cuda", "session_options"]

_MIB: Final = 1024 * 1024
_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"


class GpuSessionError(Exception):
    """A session cannot be made; the message is one line for a person."""


class UsesGpu(Protocol):
    """A lease, of either client."""

    @property
    def held(self) -> bool:
        """Whether the memory may be used."""
        ...

    @property
    def gpu(self) -> str:
        """UUID of its GPU."""
        ...

    @property
    def gpu_index(self) -> int:
        """Its GPU's place in the arbiter's list."""
        ...

    @property
    def mb(self) -> int:
        """MiB that it reserves."""
        ...


def gpu_session(
    model: bytes | Path,
    lease: UsesGpu,
    *,
    overhead_mb: int = 512,
    options: Any = None,
    cuda_graph: bool = False,
    runtime: Any = None,
    environment: Mapping[str, str] = os.environ,
) -> Any:
    """Return an `InferenceSession` on the lease's GPU, whose arena cannot outgrow the lease.

    The arena is the lease less `overhead_mb`, because contexts and workspaces are outside of it
    (facts: gpu_mem_limit bounds the arena only). It grows by what is asked for, not in powers of two.

    Args:
        model: the model's bytes, or its file.
        lease: held for as long as the session is.
        overhead_mb: MiB of the lease for the CUDA context, cuDNN and cuBLAS.
        options: `onnxruntime.SessionOptions`.
        cuda_graph: record the first run and replay it: for runs of one shape, through IO binding.
        runtime: the `onnxruntime` module; tests hand in a scripted one.
        environment: where `CUDA_VISIBLE_DEVICES` is looked up.

    Raises:
        GpuSessionError: the lease is not held, too small or on a GPU that this process does not see, or ONNX Runtime
            has no CUDA.
    """
    if not lease.held:
        raise GpuSessionError("a GPU session needs a lease that is held: acquire one first")
    arena_mb = lease.mb - overhead_mb
    if arena_mb <= 0:
        raise GpuSessionError(f"a lease of {lease.mb} MiB leaves nothing beside {overhead_mb} MiB for the context")
    runtime = _module() if runtime is None else runtime
    if _CUDA not in runtime.get_available_providers():
        raise GpuSessionError("this onnxruntime has no CUDA: install headrace[gpu] instead of headrace[cpu]")
    if hasattr(runtime, "preload_dlls"):
        # CUDA and cuDNN may have come as wheels, where the loader would not look for them by itself.
        runtime.preload_dlls()
    cuda = {
        "device_id": _device(lease, environment),
        "gpu_mem_limit": arena_mb * _MIB,
        "arena_extend_strategy": "kSameAsRequested",
        # The default takes as much workspace as it can get.
        "cudnn_conv_use_max_workspace": "0",
        **({"enable_cuda_graph": "1"} if cuda_graph else {}),
    }
    session = runtime.InferenceSession(_source(model), options, providers=[(_CUDA, cuda), _CPU])
    if _CUDA not in session.get_providers():
        # It falls back to the CPU with a line in its log.
        raise GpuSessionError("onnxruntime could not start CUDA and fell back to the CPU: see its log")
    return session


def cpu_session(model: bytes | Path, *, options: Any = None, runtime: Any = None) -> Any:
    """Return an `InferenceSession` on the CPU, which needs no lease.

    Args:
        model: the model's bytes, or its file.
        options: `onnxruntime.SessionOptions`.
        runtime: the `onnxruntime` module; tests hand in a scripted one.

    Raises:
        GpuSessionError: the package is missing.
    """
    runtime = _module() if runtime is None else runtime
    return runtime.InferenceSession(_source(model), options, providers=[_CPU])


def session_options(threads: int, *, runtime: Any = None) -> Any:
    """Return options of a session that shares its cores with others.

    Args:
        threads: of one run; 1 = the caller's own and no pool, so that a thousand sessions are no thousand pools.
        runtime: the `onnxruntime` module; tests hand in a scripted one.

    Raises:
        GpuSessionError: the package is missing.
    """
    runtime = _module() if runtime is None else runtime
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Errors only: it warns of each node that it leaves on the CPU.
    options.log_severity_level = 3
    # Threads that spin while they wait take the cores of whoever shares them (facts: ONNX Runtime).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def has_cuda() -> bool:
    """Say whether the onnxruntime that is installed was built with CUDA.

    Raises:
        GpuSessionError: the package is missing.
    """
    return _CUDA in _module().get_available_providers()


def _device(lease: UsesGpu, environment: Mapping[str, str]) -> int:
    """Return the lease's GPU as CUDA numbers it in this process."""
    visible = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if not visible:
        return lease.gpu_index
    for place, name in enumerate(visible):
        # CUDA takes the beginning of a UUID as well.
        if name == str(lease.gpu_index) or (len(name) > 4 and lease.gpu.startswith(name)):
            return place
    raise GpuSessionError(f"the lease is on {lease.gpu}, but CUDA_VISIBLE_DEVICES shows only {', '.join(visible)}")


def _source(model: bytes | Path) -> bytes | str:
    return model if isinstance(model, bytes) else str(model)


def _module() -> Any:
    try:
        import onnxruntime  # noqa: PLC0415  the library is large, and only this module may have it
    except ImportError:
        raise GpuSessionError("the package onnxruntime is missing: pip install 'headrace[cpu]' or [gpu]") from None
    return onnxruntime
