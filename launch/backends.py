"""The `[[backends]]` of `headrace.toml`: read, and refused where they could not be asked."""

from __future__ import annotations

from typing import Any

from launch.addresses import foreign, unanswerable
from streamkit.ops import settings
from streamkit.ops.settings import SettingsError
from streamkit.wire.backend import Backend

__all__ = ["backends_of"]


def backends_of(tables: dict[str, Any], where: str) -> tuple[Backend, ...]:
    """Return the backends in the tables of a file.

    Args:
        tables: of the whole file.
        where: the file, as the person knows it.

    Raises:
        SettingsError: in one line, what is wrong and where.
    """
    found = settings.convert(tables.get("backends", []), tuple[Backend, ...], where, key="backends")
    names: dict[str, int] = {}
    urls: dict[str, str] = {}
    for index, backend in enumerate(found):
        key = f"{where}: backends[{index}]"
        if backend.name in names:
            raise SettingsError(f'{key}.name: "{backend.name}" is backends[{names[backend.name]}] already')
        url = backend.url.rstrip("/")
        if backend.engine == "tfserving" and not backend.models:
            raise SettingsError(f"{key}.models: expected the names to serve, TensorFlow Serving lists none")
        if problem := unanswerable(url) or foreign(backend):
            raise SettingsError(f'{key}.url: {problem}, got "{backend.url}"')
        if url in urls:
            raise SettingsError(f'{key}.url: "{backend.url}" is the address of "{urls[url]}" already')
        names[backend.name], urls[url] = index, backend.name
    return found
