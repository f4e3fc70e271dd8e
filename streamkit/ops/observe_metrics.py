"""The rows of the catalogue that the observability centre exports: events, usage, probes, healing."""

from __future__ import annotations

from typing import Final

from streamkit.ops.metric import GAP, TTFT, Metric

__all__ = [
    "EVENTS_LOST",
    "EVENTS_SPOOLED",
    "EVENTS_STORED",
    "EVENTS_TAKEN",
    "EVENTS_WAITING",
    "FEEDS_CONNECTED",
    "HEALING_ACTS",
    "PATH_SICK",
    "PROBES",
    "PROBE_GAP",
    "PROBE_TTFT",
    "STREAM_BYTES",
    "STREAM_LAG",
    "STREAM_MESSAGES",
    "USAGE_BEHIND",
    "USAGE_COUNTED",
]

EVENTS_TAKEN: Final = Metric("headrace_events_taken", "counter", "Events read from services' feeds.", ("feed",))
EVENTS_STORED: Final = Metric("headrace_events_stored", "counter", "Events that the broker has stored.")
EVENTS_LOST: Final = Metric(
    "headrace_events_lost",
    "counter",
    "Events that are kept nowhere: forgotten by their feed, dropped from a full spool, refused as too large or none.",
    ("where",),
)
EVENTS_WAITING: Final = Metric("headrace_events_waiting", "gauge", "Events that the broker has not stored yet.")
EVENTS_SPOOLED: Final = Metric("headrace_events_spooled_bytes", "gauge", "Bytes of events that wait.")
FEEDS_CONNECTED: Final = Metric("headrace_feeds_connected", "gauge", "1 while a service's feed is read.", ("feed",))
STREAM_BYTES: Final = Metric(
    "headrace_event_stream_bytes", "gauge", "Bytes of events that the broker keeps, by stream.", ("stream",)
)
STREAM_MESSAGES: Final = Metric(
    "headrace_event_stream_messages", "gauge", "Events that the broker keeps, by stream.", ("stream",)
)
STREAM_LAG: Final = Metric("headrace_event_stream_lag", "gauge", "Events of sites that the hub has not gathered yet.")
USAGE_COUNTED: Final = Metric("headrace_usage_counted", "counter", "Events that the tally of usage has read.")
USAGE_BEHIND: Final = Metric("headrace_usage_behind", "gauge", "Events that the tally of usage has not read yet.")
PROBES: Final = Metric(
    "headrace_probes", "counter", "Probes of a path through an edge to a backend.", ("edge", "backend", "result")
)
PROBE_TTFT: Final = Metric(
    "headrace_probe_time_to_first_token_seconds",
    "histogram",
    "From a probe's request to its first token.",
    ("edge", "backend"),
    TTFT,
)
PROBE_GAP: Final = Metric(
    "headrace_probe_longest_gap_seconds",
    "histogram",
    "The longest gap between a probe's tokens.",
    ("edge", "backend"),
    GAP,
)
PATH_SICK: Final = Metric("headrace_path_sick", "gauge", "1 while probes find a path sick.", ("edge", "backend"))
HEALING_ACTS: Final = Metric(
    "headrace_healing_acts",
    "counter",
    "Healing acts: done, refused by whoever should have taken them, and would (dry-run).",
    ("act", "result"),
)
