"""What NVIDIA's driver says, by NVML: no CUDA context, so asking costs no GPU memory.

Facts that this module knows: memory of version 2 tells the driver's own reserve apart (used + reserved + free =
total), so what is not free is used. A GPU in MIG mode is its MIG devices, whose empty slots answer NOT_FOUND. A
process's memory is N/A under Windows' WDDM, and `None` here. MPS clients have a list of their own. Process ids are
the host's, also inside a container.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from core_gpu.arbiter.inventory import Device, InventoryError, Measured, Reading

__all__ = ["NvmlInventory"]

_MIB: Final = 1024 * 1024
_LISTS: Final = (
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
)


class NvmlInventory:
    """The GPUs of this machine.

    Args:
        nvml: the `pynvml` module; tests hand in a scripted one.

    Raises:
        InventoryError: no driver, no GPU, or no package.
    """

    kind = "nvml"
    measures = True

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = _module() if nvml is None else nvml
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise InventoryError(f"NVIDIA's driver does not answer: {error}") from None
        self._handles: dict[str, Any] = {}
        try:
            self._devices = tuple(self._enumerate())
        except self._nvml.NVMLError as error:
            self.close()
            raise InventoryError(f"NVIDIA's driver does not list its GPUs: {error}") from None
        if not self._devices:
            self.close()
            raise InventoryError("NVIDIA's driver lists no GPU whose memory it can measure")

    def devices(self) -> Sequence[Device]:
        """Return the GPUs, and the MIG devices of those in MIG mode, in the driver's order."""
        return self._devices

    def read(self) -> Reading:
        """Measure all devices; one that does not answer is missing.

        Raises:
            InventoryError: none answered.
        """
        taken_s = time.monotonic()
        found: dict[str, Measured] = {}
        last: Exception | None = None
        for device_id, handle in self._handles.items():
            try:
                total, free = self._memory(handle)
                found[device_id] = Measured((total - free) // _MIB, self._processes(handle))
            except self._nvml.NVMLError as error:
                last = error
        if last is not None and not found:
            raise InventoryError(f"no GPU could be measured: {last}")
        return Reading(taken_s, found)

    def close(self) -> None:
        """Let go of the driver."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            return

    def _enumerate(self) -> Iterator[Device]:
        index = 0
        for number in range(self._nvml.nvmlDeviceGetCount()):
            whole = self._nvml.nvmlDeviceGetHandleByIndex(number)
            slices = list(self._slices(whole))
            for handle in slices or [whole]:
                try:
                    total, _ = self._memory(handle)
                except self._nvml.NVMLError:
                    # Integrated GPUs share the host's memory and have none to lend.
                    continue
                device = Device(
                    id=_text(self._nvml.nvmlDeviceGetUUID(handle)),
                    index=index,
                    name=_text(self._nvml.nvmlDeviceGetName(handle)),
                    total_mb=total // _MIB,
                    mig=bool(slices),
                )
                self._handles[device.id] = handle
                yield device
                index += 1

    def _slices(self, whole: Any) -> Iterator[Any]:
        """Yield a GPU's MIG devices; none when it is not in MIG mode."""
        nvml = self._nvml
        try:
            current, _ = nvml.nvmlDeviceGetMigMode(whole)
            if current != nvml.NVML_DEVICE_MIG_ENABLE:
                return
            slots = nvml.nvmlDeviceGetMaxMigDeviceCount(whole)
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
            return
        for slot in range(slots):
            try:
                yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, slot)
            except nvml.NVMLError_NotFound:
                continue

    def _memory(self, handle: Any) -> tuple[int, int]:
        """Return total and free, in bytes."""
        nvml = self._nvml
        try:
            info = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_ArgumentVersionMismatch, nvml.NVMLError_NotSupported):
            info = nvml.nvmlDeviceGetMemoryInfo(handle)
        return int(info.total), int(info.free)

    def _processes(self, handle: Any) -> dict[int, int | None]:
        """Return MiB by process id; None where the driver does not tell."""
        nvml = self._nvml
        found: dict[int, int | None] = {}
        for name in _LISTS:
            try:
                rows = getattr(nvml, name)(handle)
            except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
                continue
            for row in rows:
                used = row.usedGpuMemory
                known = found.get(row.pid)
                # One process may be in two lists, with the same memory.
                found[row.pid] = known if used is None else max(known or 0, -(-int(used) // _MIB))
        return found


def _module() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        raise InventoryError("the package nvidia-ml-py is missing: pip install 'headrace[arbiter]'") from None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
