"""Fixtures of the browser suite; `gateway` comes from tests/conftest.py."""

from __future__ import annotations

from tests.support.browser import browser, chat, watched

__all__ = ["browser", "chat", "watched"]
