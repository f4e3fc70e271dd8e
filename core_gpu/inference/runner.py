"""One loaded model: its session, and how a batch goes through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from core_gpu.gpu_session import GpuSessionError, cpu_session, gpu_session, session_options
from core_gpu.inference.encodings import Array
from core_gpu.inference.leases import ModelLease
from core_gpu.inference.settings import InferenceSettings
from core_gpu.inference.shapes import EncoderShape, ModelShape, ShapeError, shape_of
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Runner"]


class Runner:
    """A model that can run, on any thread.

    Args:
        name: as requests call it.
        path: its file.
        lease: the memory that it may take; released by whoever loaded it.
        settings: threads, and what CUDA may do.

    Raises:
        HeadraceError: the file is no model that can be served.
    """

    def __init__(self, name: str, path: Path, lease: ModelLease, settings: InferenceSettings) -> None:
        self.name = name
        self._cuda = settings.device == "cuda"
        try:
            options = session_options(settings.threads_per_worker)
            if self._cuda:
                self._session: Any = gpu_session(
                    path,
                    lease,
                    overhead_mb=settings.gpu_overhead_mb,
                    options=options,
                    cuda_graph=settings.cuda_graphs,
                )
            else:
                self._session = cpu_session(path, options=options)
            self.shape: ModelShape | EncoderShape = shape_of(self._session)
        except (GpuSessionError, ShapeError) as error:
            raise HeadraceError(Code.BACKEND_ERROR, f"model {name}: {error}", retry_after_ms=None) from None
        except Exception as error:  # noqa: BLE001  onnxruntime's classes of error are not public
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise HeadraceError(Code.BACKEND_ERROR, f"model {name}: onnxruntime cannot load {path}: {line}") from None

    def mouth(self) -> ModelShape:
        """Return the shapes of a model that draws mouths.

        Raises:
            HeadraceError: it is an audio encoder.
        """
        if isinstance(self.shape, ModelShape):
            return self.shape
        raise HeadraceError(
            Code.INVALID_REQUEST,
            f"model_id: {self.name} is an audio encoder: it answers EncodeAudio, and draws no mouth",
            param="model_id",
        )

    def encoder(self) -> EncoderShape:
        """Return the shapes of an audio encoder.

        Raises:
            HeadraceError: it draws mouths.
        """
        if isinstance(self.shape, EncoderShape):
            return self.shape
        raise HeadraceError(
            Code.INVALID_REQUEST,
            f"model_id: {self.name} draws mouths: it answers InferBatch, and encodes no audio",
            param="model_id",
        )

    def run(self, *arrays: Array) -> Array:
        """Return the output as float32 [N, …].

        Args:
            arrays: one for each of the inputs that the model's shape names, [N, …] each.
        """
        first = arrays[0]
        if self.shape.batch == 1 and len(first) > 1:
            return np.concatenate([self.run(*(array[at : at + 1] for array in arrays)) for at in range(len(first))])
        given = {name: self._typed(array) for name, array in zip(self.shape.names, arrays, strict=True)}
        out = self._bound(given) if self._cuda else self._session.run(None, given)[0]
        return np.asarray(out, dtype=np.float32)

    def _typed(self, array: Array) -> Array:
        return np.ascontiguousarray(array, dtype=self.shape.dtype)

    def _bound(self, given: dict[str, Array]) -> Array:
        """Run with inputs and output bound: one copy each way (untested here: it needs a GPU)."""
        binding = self._session.io_binding()
        for name, array in given.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(self._session.get_outputs()[0].name, "cuda")
        self._session.run_with_iobinding(binding)
        out: Array = binding.copy_outputs_to_cpu()[0]
        return out

    def close(self) -> None:
        """Drop the session, and its memory with it."""
        self._session = None
