"""Which models there are: names from the configuration, files of the models' folder, and nothing outside of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from core_gpu.inference.reference.cache import NAMES, ReferenceModelError, reference
from core_gpu.inference.settings import InferenceSettings, ModelSettings
from streamkit.wire.errors import Code, HeadraceError

__all__ = ["Catalogue"]

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_REFERENCE: Final = "reference:"


class Catalogue:
    """The models that may be asked for.

    Args:
        settings: entries, and the folder.
    """

    def __init__(self, settings: InferenceSettings) -> None:
        self._root = Path(settings.models_root).resolve() if settings.models_root else None
        given = settings.models
        if not given and self._root is None:
            given = {name: ModelSettings(model_path=_REFERENCE + name) for name in NAMES}
        self.models: dict[str, ModelSettings] = dict(given)

    def names(self) -> list[str]:
        """Return every name: configured, or a file of the folder."""
        files = self._root.glob("*.onnx") if self._root is not None and self._root.is_dir() else ()
        return sorted({*self.models, *(file.stem for file in files if _NAME.fullmatch(file.stem))})

    def entry(self, name: str) -> ModelSettings:
        """Return a model's settings.

        Raises:
            HeadraceError: the name is none, or unknown.
        """
        found = self.models.get(name)
        if found is not None:
            return found
        if not _NAME.fullmatch(name) or ".." in name:
            raise HeadraceError(
                Code.INVALID_REQUEST,
                "model_id: expected 1 to 128 letters, digits, dots, dashes or underscores,"
                " not beginning with a dot or a dash, no two dots in a row",
                param="model_id",
            )
        if self._root is not None and (self._root / f"{name}.onnx").is_file():
            return ModelSettings(model_path=f"{name}.onnx")
        raise HeadraceError(Code.MODEL_NOT_FOUND, f"model_id: no model {name} here; see ListModels", param="model_id")

    def file(self, name: str) -> Path:
        """Return a model's file, made now if it is a reference model. May take seconds: not on an event loop.

        Raises:
            HeadraceError: there is none, or it lies outside of the models' folder.
        """
        path = self.entry(name).model_path
        if path.startswith(_REFERENCE):
            try:
                return reference(path.removeprefix(_REFERENCE))
            except ReferenceModelError as error:
                raise HeadraceError(Code.MODEL_NOT_FOUND, f"model {name}: {error}", param="model_id") from None
        at = Path(path) if self._root is None else self._root / path
        at = at.resolve()
        if self._root is not None and not at.is_relative_to(self._root):
            raise HeadraceError(
                Code.FORBIDDEN, f"model {name}: model_path lies outside of models_root", param="model_id"
            )
        if not at.is_file():
            raise HeadraceError(Code.MODEL_NOT_FOUND, f"model {name}: no such file: {path}", param="model_id")
        return at

    def charge_mb(self, name: str, file: Path) -> int:
        """Return MiB that a model counts for while it is loaded: as configured, or twice its file and 16."""
        configured = self.entry(name).memory_mb
        return configured or -(-2 * file.stat().st_size // (1024 * 1024)) + 16
