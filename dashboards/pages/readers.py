"""The edge's readers, the work that goes to them, and where it is sent."""

from __future__ import annotations

from typing import Final

from dashboards.panel import Panel, Query, Row
from dashboards.query import level, mean, percentiles, quantile, rate, ratio, worst
from streamkit.ops import catalog

__all__ = ["READERS", "WORK"]

READERS: Final = Row(
    "Readers",
    (
        Panel(
            title="Streams",
            unit="short",
            queries=(
                Query(level(catalog.STREAMS_OPEN), "open"),
                Query(level(catalog.STREAMS_PAUSED), "paused"),
                Query(level(catalog.STREAMS_DETACHED), "unread"),
                Query(level(catalog.STREAMS_KEPT), "resumable"),
            ),
            what="paused: by a slow reader. unread: it runs on, and its reader may come back. All return to 0.",
        ),
        Panel(
            title="Bytes on their way to clients",
            unit="bytes",
            queries=(Query(level(catalog.CHANNEL), "not acknowledged"),),
            what="Written, and not acknowledged by the clients' kernels: slow readers, up to their marks.",
        ),
        Panel(
            title="Memory budget by account",
            unit="bytes",
            queries=(Query(level(catalog.BUFFERED, "account"), "{{account}}"),),
            what="Together at most `memory_bytes`; beyond it requests are shed.",
            stacked=True,
        ),
        Panel(
            title="Pauses",
            unit="ops",
            queries=(Query(rate(catalog.PAUSES), "pauses"), Query(rate(catalog.HEARTBEATS), "heartbeats")),
            what="A reader was slower than its engine; a silence was bridged.",
        ),
        Panel(
            title="Time paused, p95",
            unit="s",
            queries=percentiles(catalog.PAUSED, 0.95),
            what="Of streams that were paused at all.",
        ),
        Panel(
            title="Disconnects by cause",
            unit="ops",
            queries=(Query(rate(catalog.DISCONNECTS, "phase", "cause"), "{{phase}}: {{cause}}"),),
            what="client and stopped are choices; silent and slow_reader are losses.",
        ),
        Panel(
            title="Resumes",
            unit="ops",
            queries=(
                Query(rate(catalog.RESUMES), "came back"),
                Query(rate(catalog.TAKEOVERS), "took over"),
                Query(rate(catalog.RESUME_EXPIRED), "window over"),
                Query(rate(catalog.PEER_REQUESTS, "link"), "relayed: {{link}}"),
            ),
            what="Readers of resumable streams.",
        ),
        Panel(
            title="WebSockets",
            unit="short",
            queries=(Query(level(catalog.SOCKETS_OPEN), "open"),),
            what="Each may carry many streams.",
        ),
        Panel(
            title="WebSocket traffic",
            unit="ops",
            queries=(
                Query(rate(catalog.SOCKET_MESSAGES, "type"), "said: {{type}}"),
                Query(rate(catalog.SOCKETS_CLOSED, "code"), "closed: {{code}}"),
            ),
            what="1006 = ended without a close frame.",
        ),
    ),
)
WORK: Final = Row(
    "Work, and where to",
    (
        Panel(
            title="Events delivered",
            unit="ops",
            queries=(Query(rate(catalog.STREAM_EVENTS, "model"), "{{model}}"),),
            what="About a token each.",
            stacked=True,
        ),
        Panel(
            title="Tokens of an operation",
            unit="short",
            queries=(
                Query(mean(catalog.TOKEN_USAGE, "gen_ai_token_type"), "{{gen_ai_token_type}}, mean"),
                Query(quantile(0.95, catalog.TOKEN_USAGE, "gen_ai_token_type"), "{{gen_ai_token_type}}, p95"),
            ),
            what="By the engines' own usage figures.",
        ),
        Panel(
            title="Refused by tenants' limits",
            unit="reqps",
            queries=(Query(rate(catalog.RATE_LIMITED, "tenant_class", "limit"), "{{tenant_class}} {{limit}}"),),
            what="Quotas that do their work.",
        ),
        Panel(
            title="Route look-ups",
            unit="ops",
            queries=(Query(rate(catalog.ROUTES, "source"), "{{source}}"),),
            what="stale: control is silent, and its last word is used. none: there was no last word.",
            stacked=True,
        ),
        Panel(
            title="Route cache hit ratio",
            unit="percentunit",
            queries=(Query(ratio(catalog.ROUTES, 'source=~"cache|stale"'), "answered from the cache"),),
            what="Near 1 while there is traffic; control's changes empty it.",
        ),
        Panel(
            title="Control last heard",
            unit="s",
            queries=(Query(worst(catalog.CONTROL_AGE, "instance"), "{{instance}}"),),
            what="Streams run and start without it for ten minutes.",
        ),
    ),
)
