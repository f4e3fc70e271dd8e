"""The GPU host: who holds its memory, how pressed its engines are, and what their caches are good for."""

from __future__ import annotations

from typing import Final

from dashboards.panel import Page, Panel, Query, Row
from dashboards.query import level, percentiles, rate, ratio, worst
from streamkit.ops import catalog

__all__ = ["CORE_GPU"]


_MEMORY: Final = Row(
    "Memory",
    (
        Panel(
            title="GPU memory",
            unit="bytes",
            queries=(Query(level(catalog.GPU_MEMORY, "gpu", "what"), "GPU {{gpu}}: {{what}}"),),
            what="unleased: used by somebody who holds no lease. free: what the grant rule would still give.",
        ),
        Panel(
            title="GPU last measured",
            unit="s",
            queries=(Query(worst(catalog.GPU_SNAPSHOT_AGE, "gpu"), "GPU {{gpu}}"),),
            what="Older than half a second: nothing is granted. 0 where nothing is measured, -1 = never yet.",
            signed=True,
        ),
        Panel(
            title="Leases by state",
            unit="short",
            queries=(Query(level(catalog.LEASES_HELD, "state"), "{{state}}"),),
            what="reclaiming: over, and its processes still hold memory.",
            stacked=True,
        ),
        Panel(
            title="Requests for leases",
            unit="ops",
            queries=(
                Query(rate(catalog.LEASES_GRANTED), "granted"),
                Query(rate(catalog.LEASES_REFUSED, "code"), "refused: {{code}}"),
            ),
            what="A refusal says what is free and who holds the rest: `headrace leases`.",
        ),
        Panel(
            title="Requests for leases in line",
            unit="short",
            queries=(Query(level(catalog.LEASES_WAITING), "waiting"),),
            what="They wait for somebody to let go.",
        ),
        Panel(
            title="Lease handshake",
            unit="s",
            queries=percentiles(catalog.LEASE_HANDSHAKE, 0.5, 0.99),
            what="Inside the arbiter, waiting included. Promised without a wait: p50 0.6 ms, p99 1 ms.",
        ),
        Panel(
            title="What happened to leases",
            unit="ops",
            queries=(Query(rate(catalog.LEASE_EVENTS, "event"), "{{event}}"),),
            what="notice, fence: somebody was pre-empted. expire: somebody did not renew.",
        ),
        Panel(
            title="Ledger's log",
            unit="bytes",
            queries=(Query(level(catalog.LEDGER_LOG), "write-ahead log"),),
            what="Small, or the checkpoint does not come through.",
        ),
    ),
)
_PRESSURE: Final = Row(
    "Engines",
    (
        Panel(
            title="Pressure",
            unit="short",
            # Control says it, which is no instance of this page.
            queries=(Query(worst(catalog.BACKEND_PRESSURE, "backend", of_all=True), "{{backend}}"),),
            what="Of all hosts. silent: its arbiter never said anything.",
            signed=True,
            words=((-1, "silent"), (0, "ok"), (1, "busy"), (2, "shedding"), (3, "down")),
        ),
        Panel(
            title="Pressure changes",
            unit="ops",
            queries=(Query(rate(catalog.PRESSURE_CHANGES, "backend", "level"), "{{backend}} → {{level}}"),),
            what="Flapping: widen the marks in [arbiter].",
        ),
        Panel(
            title="Requests in engines",
            unit="short",
            queries=(Query(level(catalog.ENGINE_REQUESTS, "backend", "state"), "{{backend}} {{state}}"),),
            what="By their own word. Waiting there costs the engine; waiting at the edge does not.",
            stacked=True,
        ),
        Panel(
            title="Prefix cache hit ratio",
            unit="percentunit",
            queries=(
                Query(ratio(catalog.ENGINE_PREFIX, 'what="hits"', "backend", among='what="queries"'), "{{backend}}"),
            ),
            what="Tokens of prompts that an engine had computed before. Session affinity raises it.",
        ),
        Panel(
            title="KV cache",
            unit="percentunit",
            queries=(Query(worst(catalog.ENGINE_CACHE, "backend"), "{{backend}}"),),
            what="Near 1 sequences are pre-empted: fewer at a time, or shorter contexts.",
        ),
        Panel(
            title="Room made",
            unit="ops",
            queries=(Query(rate(catalog.BACKEND_ROOM, "backend", "what"), "{{backend}} {{what}}"),),
            what="asked without confirmed: an engine says that it let go and does not.",
        ),
        Panel(
            title="States published",
            unit="ops",
            queries=(Query(rate(catalog.STATES_PUBLISHED), "states"),),
            what="Five a second from each arbiter.",
        ),
        Panel(
            title="Broker",
            unit="bool",
            queries=(Query(worst(catalog.NATS_CONNECTED, "instance"), "{{instance}}"),),
            what="0: pressure reaches nobody, and goes stale within a second.",
        ),
    ),
)

CORE_GPU: Final = Page("core-gpu", "Headrace · GPU host", (_MEMORY, _PRESSURE), of=catalog.LEASES_WAITING.name)
