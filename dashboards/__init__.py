"""Grafana pages and Prometheus rules, generated from the metric catalogue."""
