"""The users' own `config.yaml`: each key honoured, or ignored with a warning that names it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from core_gpu.inference.settings import InferenceSettings, ModelSettings
from streamkit.ops.settings import SettingsError, convert, nearest

__all__ = ["Read", "read_config"]

_MAX_BYTES: Final = 4 * 1024 * 1024
_ADDRESS: Final = re.compile(r"(?P<host>.*):(?P<port>\d{1,5})")
_WINDOWS: Final = re.compile(r"[A-Za-z]:[\\/]")
_KNOWN: Final = {
    "server": ("port", "max_message_size_mb", "worker_count_per_gpu", "queue_size"),
    "gpus": ("enabled", "count", "memory_gb_per_gpu", "assignment_strategy"),
    "capacity": ("max_models", "max_memory_gb", "eviction_policy", "idle_timeout_minutes"),
    "onnx": ("library_path",),
}
_MODEL: Final = ("model_path", "preload", "preferred_gpu")


@dataclass(frozen=True, slots=True)
class Read:
    """What a file says.

    Args:
        settings: ours.
        warnings: a line for each key that is ignored, or means something else here.
    """

    settings: InferenceSettings
    warnings: list[str]


def read_config(path: Path, *, has_cuda: Callable[[], bool]) -> Read:
    """Return what the file at `path` says.

    Args:
        path: a YAML file.
        has_cuda: says whether GPUs can be used; asked only if the file wants them.

    Raises:
        SettingsError: it cannot be read, or a value cannot be used.
    """
    tables = _tables(path)
    warnings: list[str] = []
    for name, table in tables.items():
        if name == "models":
            continue
        if name not in _KNOWN:
            warnings.append(f"{name}: ignored: unknown{nearest(str(name), (*_KNOWN, 'models'))}")
            continue
        warnings += (
            f"{name}.{key}: ignored: unknown{nearest(str(key), _KNOWN[name])}"
            for key in _table(path, name, table)
            if key not in _KNOWN[name]
        )
    found = _Values(path, tables, warnings)
    data: dict[str, Any] = {
        **found.address(),
        **found.copied(),
        **found.memory(),
        **found.device(has_cuda),
        "models": found.models(),
    }
    return Read(convert(data, InferenceSettings, str(path)), warnings)


class _Values:
    """The file's values under our names; a value of a wrong type is left for `convert` to refuse."""

    def __init__(self, path: Path, tables: Mapping[str, Any], warnings: list[str]) -> None:
        self._path = path
        self._tables = tables
        self._warnings = warnings

    def address(self) -> dict[str, Any]:
        port = self._get("server", "port")
        if port is None:
            return {}
        match = _ADDRESS.fullmatch(f":{port}" if isinstance(port, int) else str(port))
        if match is None or int(match["port"]) > 65_535:
            raise self._wrong("server.port", 'expected an address like ":50051"', port)
        if not match["host"]:
            self._warnings.append(
                "server.port: listens on 127.0.0.1 only; for other machines name an address, as 0.0.0.0:50051,"
                " and the three TLS files in a headrace.toml"
            )
        return {"host": match["host"] or "127.0.0.1", "port": int(match["port"])}

    def copied(self) -> dict[str, Any]:
        names = {
            "max_message_mb": ("server", "max_message_size_mb", int),
            "workers_per_gpu": ("server", "worker_count_per_gpu", int),
            "queue_size": ("server", "queue_size", int),
            "gpus": ("gpus", "count", int),
            "assignment": ("gpus", "assignment_strategy", str),
            "max_models": ("capacity", "max_models", int),
            "eviction": ("capacity", "eviction_policy", str),
        }
        data: dict[str, Any] = {}
        for ours, (table, key, kind) in names.items():
            value = self._get(table, key)
            if value is None:
                continue
            if not isinstance(value, kind) or isinstance(value, bool):
                raise self._wrong(f"{table}.{key}", f"expected {_words(kind)}", value)
            data[ours] = value.lower() if isinstance(value, str) else value
            # In their words, not in ours.
            try:
                msgspec.convert({ours: data[ours]}, InferenceSettings)
            except msgspec.ValidationError as error:
                raise SettingsError(f"{self._path}: {table}.{key}: {str(error).split(' - at')[0]}") from None
        return data

    def memory(self) -> dict[str, Any]:
        names = {
            "memory_mb_per_gpu": ("gpus", "memory_gb_per_gpu", 1024),
            "max_memory_mb": ("capacity", "max_memory_gb", 1024),
            "idle_timeout_ms": ("capacity", "idle_timeout_minutes", 60_000),
        }
        data: dict[str, Any] = {}
        for ours, (table, key, factor) in names.items():
            value = self._get(table, key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 16_384:
                raise self._wrong(f"{table}.{key}", "expected a number from 0 to 16384", value)
            data[ours] = min(round(value * factor), 86_400_000)
        return data

    def device(self, has_cuda: Callable[[], bool]) -> dict[str, Any]:
        enabled = self._get("gpus", "enabled")
        if enabled is not None and not isinstance(enabled, bool):
            raise self._wrong("gpus.enabled", "expected true or false", enabled)
        if self._get("onnx", "library_path") is not None:
            self._warnings.append("onnx.library_path: ignored: ONNX Runtime is the Python package that is installed")
        if not enabled:
            return {"device": "cpu"}
        if has_cuda():
            return {"device": "cuda"}
        self._warnings.append(
            "gpus.enabled: this onnxruntime has no CUDA, so the CPU stands in for each GPU:"
            " on a GPU host install headrace[gpu] instead of headrace[cpu]"
        )
        return {"device": "cpu"}

    def models(self) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name, model in _table(self._path, "models", self._tables.get("models")).items():
            table = _table(self._path, f"models.{name}", model)
            for key in table:
                if key not in _MODEL:
                    self._warnings.append(f"models.{name}.{key}: ignored: unknown{nearest(str(key), _MODEL)}")
            path = table.get("model_path")
            if isinstance(path, str) and not path.startswith("reference:") and not Path(path).is_file():
                kind = "a path of Windows, and " if _WINDOWS.match(path) else ""
                self._warnings.append(
                    f"models.{name}.model_path: {path} is {kind}no file here: requests for {name} are refused"
                )
            given = {key: table[key] for key in _MODEL if key in table}
            convert(given, ModelSettings, str(self._path), key=f"models.{name}")
            data[str(name)] = given
        return data

    def _get(self, table: str, key: str) -> Any:
        return _table(self._path, table, self._tables.get(table)).get(key)

    def _wrong(self, key: str, what: str, value: object) -> SettingsError:
        return SettingsError(f"{self._path}: {key}: {what}, got {value!r}")


def _tables(path: Path) -> Mapping[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > _MAX_BYTES:
        raise SettingsError(f"{path}: at most {_MAX_BYTES} bytes, got {len(raw)}")
    try:
        found = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return _table(path, "the file", found)


def _table(path: Path, name: str, value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsError(f"{path}: {name}: expected a table, got {value!r}")
    return value


def _words(kind: type) -> str:
    return "a whole number" if kind is int else "a word"
