"""`python -m dashboards`: writes Grafana's pages and Prometheus' rules; run it in the repository's root."""

from __future__ import annotations

from dashboards.build import HERE, files

for path, text in files().items():
    (HERE / path).write_text(text, encoding="utf-8")
