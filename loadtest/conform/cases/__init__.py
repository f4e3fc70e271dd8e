"""The cases, one module a topic; importing this package registers them all."""

from __future__ import annotations

from loadtest.conform.cases import (
    basics,
    cancel,
    errors,
    flow,
    framing,
    headrace,
    http,
    retry,
    silence,
    surface,
    truth,
    usage,
)

__all__ = [
    "basics",
    "cancel",
    "errors",
    "flow",
    "framing",
    "headrace",
    "http",
    "retry",
    "silence",
    "surface",
    "truth",
    "usage",
]
