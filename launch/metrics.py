"""`headrace metrics`: the metric catalogue, for people, for docs/reference/metrics.md, and for Prometheus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from launch.ports import PORT_BASE
from streamkit.ops.catalog import CATALOG, Metric
from streamkit.ops.command import carry_out
from streamkit.ops.options import Parser, free_or_port

__all__ = ["main", "markdown", "scrape_config"]

#: Parts of the page: a heading, and how the names of its metrics begin. The first that fits; the last takes the rest.
_PARTS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (
        "What an edge serves",
        ("gen_ai_server_", "headrace_stream", "headrace_added", "headrace_req", "headrace_refused"),
    ),
    ("What an edge pulls", ("gen_ai_client_", "headrace_attempts", "headrace_upstream", "headrace_breaker")),
    (
        "Waiting, second attempts, limits",
        (
            "headrace_queue",
            "headrace_retries",
            "headrace_hedges",
            "headrace_contin",
            "headrace_evict",
            "headrace_rate",
        ),
    ),
    (
        "Readers",
        (
            *(
                "headrace_disconnects",
                "headrace_pause",
                "headrace_channel",
                "headrace_buffered",
                "headrace_heartbeats",
            ),
            *("headrace_resume", "headrace_takeovers", "headrace_peer", "headrace_socket"),
        ),
    ),
    ("Routing and control", ("headrace_routes", "headrace_control", "headrace_backend_up", "headrace_arbiter_age")),
    (
        "The GPU host",
        (
            *("headrace_lease", "headrace_gpu", "headrace_ledger", "headrace_pressure", "headrace_backend_pressure"),
            *("headrace_backend_room", "headrace_engine", "headrace_states", "headrace_nats"),
        ),
    ),
    (
        "Events, usage, probes",
        (
            *("headrace_event", "headrace_feed", "headrace_usage"),
            *("headrace_probe", "headrace_path", "headrace_healing"),
        ),
    ),
    ("Avatars", ("headrace_avatar", "headrace_compositor", "headrace_speech", "headrace_inference")),
    ("Everything else", ("",)),
)
_HEAD: Final = """\
# Metrics

Generated from `streamkit/ops/catalog.py` by `make dashboards`; a test compares. `headrace metrics` prints the same.

Every process serves its own on its ops port at `/metrics`: one process, one scrape target
([monitoring](../operations/monitoring.md)). Names that OpenTelemetry's conventions for generative AI have are theirs,
in Prometheus' spelling: `gen_ai_server_*` is what the edge serves, `gen_ai_client_*` what it pulls from engines, both
measured by one clock; their difference is the edge's own cost, and `headrace_added_delay_seconds` is that difference
for the first token. `gen_ai_provider_name` is `headrace` for what is served, else the backend's kind of engine;
`backend` stands for `server.address`. Labels of a series that ended well have `error_type=""`.

No label holds anything that a client can make up: models are those that backends serve, codes are ours. Should one
grow all the same, a metric has at most 2,000 label sets in a process; what comes later is counted as `other`, and
`headrace_series_folded_total` says so. Beside these there are the Python client's `process_*` and `python_*`.
"""
_SCRAPE: Final = """\
# For a `headrace up` on this machine: prometheus --config.file=THIS
global:
  scrape_interval: 5s
rule_files:
  - dashboards/rules/*.yml
scrape_configs:
"""
#: Job, and its ops ports on the base.
_JOBS: Final = (
    *(("edge", range(10, 11)), ("observe", (25,)), ("compositor", (26,)), ("inference", (27,))),
    *(("arbiter", (28,)), ("control", (29,))),
)


def main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit status."""
    return carry_out(_parser(), arguments, _run)


def _parser() -> Parser:
    parser = Parser(prog="headrace metrics", description="Print the metrics that the services export.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--markdown", action="store_true", help="print docs/reference/metrics.md")
    what.add_argument("--scrape-config", action="store_true", help="print a prometheus.yml for this machine")
    parser.add_argument(
        "--port-base", type=free_or_port, default=PORT_BASE, metavar="N", help="of headrace up (%(default)s)"
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.markdown:
        sys.stdout.write(markdown())
    elif options.scrape_config:
        sys.stdout.write(scrape_config(options.port_base))
    else:
        sys.stdout.writelines(f"{line}\n" for line in _plain())
    return 0


def markdown() -> str:
    """Return docs/reference/metrics.md."""
    out = [_HEAD]
    for heading, metrics in _parted():
        out += [f"## {heading}\n", "| metric | kind | labels | |", "|---|---|---|---|"]
        for metric in metrics:
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            out.append(
                f"| `{_exposed(metric)}` | {metric.kind} | {labels} | {metric.help.replace('|', chr(92) + '|')} |"
            )
        out.append("")
    out += ["## Buckets\n", "| histogram | upper bounds |", "|---|---|"]
    out += [
        f"| `{metric.name}` | {' '.join(f'{bound:g}' for bound in metric.buckets)} |"
        for metric in CATALOG
        if metric.buckets
    ]
    return "\n".join(out) + "\n"


def scrape_config(base: int) -> str:
    """Return a prometheus.yml for the services of one machine, on ports counted from `base`."""
    out = [_SCRAPE]
    for job, offsets in _JOBS:
        targets = ", ".join(f'"127.0.0.1:{base + offset}"' for offset in offsets)
        out.append(f"  - job_name: headrace-{job}\n    static_configs:\n      - targets: [{targets}]\n")
    return "".join(out)


def _exposed(metric: Metric) -> str:
    return metric.name + ("_total" if metric.kind == "counter" else "")


def _parted() -> Iterator[tuple[str, list[Metric]]]:
    left = list(CATALOG)
    for heading, beginnings in _PARTS:
        taken = [metric for metric in left if metric.name.startswith(beginnings)]
        left = [metric for metric in left if metric not in taken]
        if taken:
            yield heading, taken


def _plain() -> Iterator[str]:
    for heading, metrics in _parted():
        yield heading
        for metric in metrics:
            labels = f"{{{', '.join(metric.labels)}}}" if metric.labels else ""
            yield f"  {_exposed(metric)}{labels}"
            yield f"      {metric.kind}: {metric.help}"
