"""What `headrace top` reckons and shows, from pages that processes could have exported."""

from __future__ import annotations

import io
import json
import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from launch.cli import main
from launch.figures import figures
from launch.history import History
from launch.scrapes import Scrape, Window
from launch.screen import Screen
from launch.top_page import page
from streamkit.ops import catalog
from streamkit.ops.metrics import Metrics

URL = "http://127.0.0.1:7410"


def scraped(
    metrics: Metrics, at_s: float = 0.0, url: str = URL, state: str = "ready", born_s: float | None = None
) -> Scrape:
    series: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(metrics.exposition()[0].decode()):
        for sample in family.samples:
            series.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    if born_s is not None:
        series["process_start_time_seconds"] = {(): born_s}
    return Scrape(url, at_s, state, series)


def edge() -> Metrics:
    metrics = Metrics()
    metrics.counter(catalog.STREAMS_OPEN).value = 12
    metrics.counter(catalog.QUEUE_WAITING).value = 3
    metrics.counter(catalog.STREAMS, "chat", "m", "finished", "").value = 90
    metrics.counter(catalog.STREAMS, "chat", "m", "failed", "saturated").value = 10
    for value in (0.03, 0.05, 0.07, 0.09, 0.22):
        metrics.histogram(catalog.STREAM_TTFT, "chat", "headrace", "m").observe(value)
    metrics.counter(catalog.ATTEMPTS_INFLIGHT, "gpu0").value = 8
    metrics.counter(catalog.ATTEMPTS, "gpu0", "done").value = 95
    metrics.counter(catalog.BREAKER_OPEN, "gpu0").value = 0
    return metrics


def control() -> Metrics:
    metrics = Metrics()
    metrics.counter(catalog.CONTROL_EDGES).value = 1
    metrics.counter(catalog.BACKEND_UP, "gpu0").value = 1
    metrics.counter(catalog.BACKEND_UP, "gpu1").value = 0
    metrics.counter(catalog.BACKEND_PRESSURE, "gpu0").value = 2
    return metrics


def arbiter() -> Metrics:
    metrics = Metrics()
    metrics.counter(catalog.LEASES_WAITING).value = 1
    metrics.counter(catalog.LEASES_HELD, "granted").value = 2
    for what, mib in {"total": 24_000, "used": 12_000, "reserved": 16_000, "unleased": 500, "free": 5_000}.items():
        metrics.counter(catalog.GPU_MEMORY, "0", what).value = mib * 1024 * 1024
    return metrics


def test_a_quantile_is_prometheus_own() -> None:
    window = Window([(scraped(edge()), None)])
    # Of five values the third lies in (0.06, 0.08], alone; half of the way through it.
    assert window.quantile(0.5, catalog.STREAM_TTFT) == pytest.approx(0.06 + 0.02 * 0.5)
    assert window.quantile(1.0, catalog.STREAM_TTFT) == pytest.approx(0.25)
    assert window.quantile(0.5, catalog.STREAM_GAP) is None


def test_beyond_the_last_boundary_nothing_is_known() -> None:
    metrics = Metrics()
    metrics.histogram(catalog.STREAM_TTFT, "chat", "headrace", "m").observe(1e6)
    found = Window([(scraped(metrics), None)]).quantile(0.5, catalog.STREAM_TTFT)
    assert found == catalog.STREAM_TTFT.buckets[-1]


def test_a_window_counts_what_came_within_it_and_survives_a_restart() -> None:
    metrics = edge()
    then = scraped(metrics, 10.0)
    metrics.counter(catalog.STREAMS, "chat", "m", "finished", "").value += 5
    window = Window([(scraped(metrics, 20.0), then)])
    assert window.seconds() == 10
    assert sum(window.counted(catalog.STREAMS).values()) == 5
    assert window.quantile(0.5, catalog.STREAM_TTFT) is None
    fresh = Window([(scraped(edge(), 20.0), scraped(metrics, 10.0))])
    assert fresh.counted(catalog.STREAMS, outcome="finished") == {"": 90}


def test_edges_backends_and_gpus_are_found_by_what_processes_export() -> None:
    pairs = [
        (scraped(edge()), None),
        (scraped(control(), url="http://127.0.0.1:7429"), None),
        (scraped(arbiter(), url="http://127.0.0.1:7428"), None),
    ]
    found = figures(pairs)
    assert [process.kind for process in found.processes] == ["edge", "control", "arbiter"]
    (one,) = found.edges
    assert (one.streams, one.waiting, one.requests, one.failed) == (12, 3, 100, 10)
    up, down = found.backends
    assert (up.name, up.state, up.pressure, up.inflight, up.attempts) == ("gpu0", "up", "shedding", 8, 95)
    assert (down.name, down.state, down.pressure) == ("gpu1", "down", "")
    (gpu,) = found.gpus
    assert gpu.free_bytes == 5_000 * 1024 * 1024
    assert (found.leases, found.leases_waiting) == ({"granted": 2}, 1)


def test_avatars_have_a_line_where_there_are_any() -> None:
    assert figures([(scraped(edge()), None)]).faces is None
    metrics = Metrics()
    metrics.counter(catalog.AVATAR_SESSIONS).value = 2
    metrics.counter(catalog.AVATAR_VIEWERS, "webrtc").value = 3
    metrics.histogram(catalog.INFERENCE_REQUEST).observe(0.003)
    lines = page(figures([(scraped(metrics), None)]), Screen(io.StringIO()))
    assert "  avatars: 2 open, 3 viewers; mouths: 0 waiting, p95 3.9 ms" in lines


def busy() -> Metrics:
    """An edge and its backends in words as long as there are."""
    metrics = edge()
    metrics.counter(catalog.STREAMS_PAUSED).value = 311
    metrics.counter(catalog.STREAMS_OPEN).value = 1_200
    metrics.counter(catalog.QUEUE_WAITING).value = 12_345
    metrics.counter(catalog.STREAM_EVENTS, "m").value = 9_876_000
    metrics.counter(catalog.BREAKER_OPEN, "a-backend-with-a-long-name").value = 1
    metrics.counter(catalog.ATTEMPTS_INFLIGHT, "a-backend-with-a-long-name").value = 4_096
    return metrics


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_page_fits_its_columns_and_reads_without_colour(width: int) -> None:
    far = "http://a-host-with-a-very-long-name.example.internal:7410"
    pairs = [(scraped(busy(), url=far, state="not ready"), None), (scraped(control(), url=URL), None)]
    found = figures([*pairs, (scraped(arbiter(), url="http://127.0.0.1:7428"), None)], ["http://127.0.0.1:7429"])
    lines = page(found, Screen(io.StringIO()), width)
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert max(map(len, lines)) <= width
    words = ("not ready", "breaker", "1200 (311 slow)", "TTFT p50", "GAP p99", "QUEUE", "12345", "shedding", "4096")
    for word in (*words, "12,000 used, 16,000 leased of 24,000 MiB", "1 waiting in line", ":7410"):
        assert word in text, word
    (row,) = [line for line in lines if "1200 (311 slow)" in line]
    assert ("ADDED p50" in text) is (far.removeprefix("http://") in row) is (width == 200)
    assert "  http://127.0.0.1:7429 does not answer" in lines
    assert "500 MiB are used without a lease" in text


def test_where_there_is_nothing_the_page_says_so() -> None:
    lines = page(figures([], [URL]), Screen(io.StringIO()))
    text = "\n".join(lines)
    for words in ("no edge answers", "no backend is known", "GPU memory: no data", "no process answers"):
        assert words in text, words
    quiet = Metrics()
    quiet.counter(catalog.STREAMS_OPEN).value = 0
    heads, row = page(figures([(scraped(quiet), None)]), Screen(io.StringIO()))[2:4]
    assert " ".join(heads.split()) == "EDGE STATE STREAMS TTFT p50 p95 GAP p99 QUEUE REQ BAD EVENTS"
    assert row.split("  ")[-1].strip() == "0"
    assert row.count("no data") == 3, "TTFT twice, and the gap"


def test_gpus_of_several_hosts_are_told_apart() -> None:
    pairs = [(scraped(arbiter(), url=f"http://{host}:7428"), None) for host in ("10.0.0.5", "10.0.0.6")]
    lines = page(figures(pairs), Screen(io.StringIO()))
    assert [line.strip() for line in lines if " at " in line] == ["at 10.0.0.5:7428", "at 10.0.0.6:7428"]


def test_a_history_is_bounded_however_often_is_looked() -> None:
    history = History(window_s=3_600)
    for second in range(10_000):
        history.add({URL: Scrape(URL, float(second), "ready", {})}, float(second))
    now = Scrape(URL, 10_000.0, "ready", {})
    ((_, then),) = history.pairs({URL: now})
    assert then is not None
    assert 3_500 <= now.at_s - then.at_s <= 3_600 + 60
    assert len(history) <= 61


def test_a_process_started_anew_at_its_address_is_another_one() -> None:
    history = History(window_s=60)
    old = edge()
    history.add({URL: scraped(old, 1.0, born_s=100.0)}, 1.0)
    young = edge()  # it has counted as much as the other one had
    (pair,) = history.pairs({URL: scraped(young, 2.0, born_s=150.0)})
    assert pair[1] is None
    assert figures([pair]).edges[0].requests == 100
    history.add({URL: scraped(young, 2.0, born_s=150.0)}, 2.0)
    young.counter(catalog.STREAMS, "chat", "m", "finished", "").value += 7
    (pair,) = history.pairs({URL: scraped(young, 3.0, born_s=150.0)})
    assert figures([pair]).edges[0].requests == 7
    assert history.seen == {URL}


def test_cores_are_those_of_the_window_and_never_less_than_none() -> None:
    def used(seconds: float, at_s: float, age_s: float = 0.0) -> Scrape:
        series = {"headrace_streams_open": {(): 0.0}, "process_cpu_seconds_total": {(): seconds}}
        return Scrape(URL, at_s, "ready", series, age_s)

    cores = [
        figures([pair]).processes[0].cpu_cores
        for pair in [
            (used(12.0, 20.0), used(10.0, 10.0)),
            (used(1.0, 20.0), used(10.0, 10.0)),
            (used(5.0, 20.0, age_s=50.0), None),
            (used(5.0, 20.0), None),
        ]
    ]
    assert cores == [pytest.approx(0.2), pytest.approx(0.1), pytest.approx(0.1), None]


def test_an_edge_that_has_served_nothing_has_dashes_and_no_zeros() -> None:
    metrics = Metrics()
    metrics.counter(catalog.STREAMS_OPEN).value = 0
    (one,) = figures([(scraped(metrics), None)]).edges
    assert (one.ttft_p50_s, one.gap_p99_s) == (None, None)
    assert not any(isinstance(value, float) and math.isnan(value) for value in (one.requests, one.events))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--every-ms", "5"], "argument --every-ms: expected a whole number from 100 to 3600000, got 5"),
        (["--window-s", "x"], "argument --window-s: expected a whole number from 1 to 3600, got x"),
        (["--url", "a", "--ready-file", "b"], "not allowed with"),
        (["--port-base", "0"], "--port-base 0 means free ports"),
        (["--ready-file", "none.json"], "none.json: No such file or directory: is it running?"),
    ],
)
def test_a_mistake_is_one_line_and_two(capsys, argv, said) -> None:
    assert main(["top", *argv]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_every_worker_of_an_edge_is_asked(capsys, tmp_path) -> None:
    workers = [{"worker": number, "pid": 1, "ops_url": f"http://127.0.0.1:{number}"} for number in (1, 2)]
    edge = {"name": "edge", "url": "http://127.0.0.1:9", "ops_url": "http://127.0.0.1:1", "workers": workers}
    (tmp_path / "ready.json").write_text(json.dumps({"services": [edge, {"name": "gpu0", "ops_url": None}]}))
    assert main(["top", "--ready-file", str(tmp_path / "ready.json"), "--once"]) == 1
    said = capsys.readouterr().err
    assert "nobody answers at http://127.0.0.1:1, http://127.0.0.1:2: is it running?" in said


def test_a_file_that_is_no_ready_file_is_named(capsys, tmp_path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"services": 7}))
    assert main(["top", "--ready-file", str(path), "--once"]) == 2
    assert f"{path}: no ready file:" in capsys.readouterr().err


def test_where_nobody_answers_it_says_where_it_looked(capsys) -> None:
    assert main(["top", "--once", "--url", "http://127.0.0.1:9/"]) == 1
    assert capsys.readouterr().err == "headrace top: nobody answers at http://127.0.0.1:9: is it running?\n"
