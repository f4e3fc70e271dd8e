"""The pages: first what people feel, then why."""

from __future__ import annotations

from typing import Final

from dashboards.pages.avatar import AVATAR
from dashboards.pages.core_gpu import CORE_GPU
from dashboards.pages.edge import EDGE
from dashboards.pages.fleet import FLEET
from dashboards.pages.slo import SLO
from dashboards.panel import Page

__all__ = ["PAGES"]

PAGES: Final[tuple[Page, ...]] = (EDGE, CORE_GPU, AVATAR, SLO, FLEET)
