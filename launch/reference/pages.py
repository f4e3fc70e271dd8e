"""Every generated page, by its path in the repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from launch.reference.configuration import configuration
from launch.reference.errors import errors

__all__ = ["pages"]


def pages(root: Path) -> Mapping[str, str]:
    """Return the text of each generated page.

    Args:
        root: of the repository; `headrace.toml` is read there.
    """
    sample = (root / "headrace.toml").read_text(encoding="utf-8")
    return {"docs/reference/configuration.md": configuration(sample), "docs/reference/errors.md": errors()}
