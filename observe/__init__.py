"""Observability centre: keeps the events of every site, counts usage, probes every path, heals what is sick."""
