"""`/metrics` under vLLM 0.32's names, labels and buckets (g06_metrics_idle_fresh, g20_metrics_busy)."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import Final

from simulator.settings import SimulatorSettings

__all__ = ["REASONS", "Gauges", "Metrics"]

REASONS: Final = ("stop", "length", "abort", "error", "repetition")
_TOKENS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
_LATENCY: Final = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
_TTFT: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
_ITL: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_ITERATION: Final = tuple(float(2**i) for i in (0, *range(3, 15)))
_N: Final = (1.0, 2.0, 5.0, 10.0, 20.0)
_PREEMPTIONS: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)


class _Histogram:
    __slots__ = ("bounds", "counts", "name", "sum")

    def __init__(self, name: str, bounds: tuple[float, ...]) -> None:
        self.name = name
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Gauges:
    """What is read off the engine at scrape time."""

    __slots__ = ("asleep", "kv_usage", "running", "sleep_level", "waiting")

    def __init__(self, running: int, waiting: int, kv_usage: float, sleep_level: int | None) -> None:
        self.running = running
        self.waiting = waiting
        self.kv_usage = kv_usage
        self.asleep = sleep_level is not None
        self.sleep_level = sleep_level


class Metrics:
    """Counters and histograms of one simulator.

    Args:
        settings: for the model's name and the cache's size.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._model = settings.models[0]
        self._born = time.time()
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generation_tokens = 0
        self.preemptions = 0
        self.finished = dict.fromkeys(REASONS, 0)
        self.rejections = {"max_num_queued_reqs": 0, "max_num_queued_tokens": 0}
        new = _Histogram
        self._prompt = new("request_prompt_tokens", _TOKENS)
        self._generation = new("request_generation_tokens", _TOKENS)
        self._iteration = new("iteration_tokens_total", _ITERATION)
        self._max_generation = new("request_max_num_generation_tokens", _TOKENS)
        self._n = new("request_params_n", _N)
        self._max_tokens = new("request_params_max_tokens", _TOKENS)
        self._ttft = new("time_to_first_token_seconds", _TTFT)
        self._itl = new("inter_token_latency_seconds", _ITL)
        self._tpot = new("request_time_per_output_token_seconds", _ITL)
        self._e2e = new("e2e_request_latency_seconds", _LATENCY)
        self._queue = new("request_queue_time_seconds", _LATENCY)
        self._inference = new("request_inference_time_seconds", _LATENCY)
        self._prefill = new("request_prefill_time_seconds", _LATENCY)
        self._decode = new("request_decode_time_seconds", _LATENCY)
        self._preempted = new("request_num_preemptions", _PREEMPTIONS)
        self._computed = new("request_prefill_kv_computed_tokens", _TOKENS)
        self._histograms = [
            self._prompt, self._generation, self._iteration, self._max_generation, self._n, self._max_tokens,
            self._ttft, self._itl, self._tpot, self._e2e, self._queue, self._inference, self._prefill, self._decode,
            self._preempted, self._computed,
        ]  # fmt: skip

    # What the engine reports.

    def admitted(self, prompt_tokens: int, hits: int) -> None:
        """A sequence left the queue, `hits` of its tokens being in the prefix cache."""
        self.prompt_tokens += prompt_tokens
        self.cached_tokens += hits

    def first_token(self, seconds: float) -> None:
        """A first token, `seconds` after its request came."""
        self.generation_tokens += 1
        self._ttft.observe(seconds)

    def token(self, seconds: float) -> None:
        """A further token, `seconds` after the one before."""
        self.generation_tokens += 1
        self._itl.observe(seconds)

    def iteration(self, tokens: int) -> None:
        """One engine step."""
        if tokens:
            self._iteration.observe(tokens)

    def preempted(self) -> None:
        """A running sequence went back to the queue."""
        self.preemptions += 1

    def parameters(self, n: int, max_tokens: int) -> None:
        """A request was accepted."""
        self._n.observe(n)
        self._max_tokens.observe(max_tokens)

    def ended(
        self, reason: str, *, prompt: int, computed: int, tokens: int, preemptions: int,
        arrived: float, admitted: float, first: float, last: float,
    ) -> None:  # fmt: skip
        """A sequence ended by itself; times are monotonic seconds."""
        self.finished[reason] += 1
        self._prompt.observe(prompt)
        self._computed.observe(computed)
        self._generation.observe(tokens)
        self._max_generation.observe(tokens)
        self._preempted.observe(preemptions)
        if admitted and first:
            self._queue.observe(admitted - arrived)
            self._e2e.observe(last - arrived)
            self._inference.observe(last - admitted)
            self._prefill.observe(first - admitted)
            self._decode.observe(last - first)
            self._tpot.observe((last - first) / max(1, tokens - 1))

    # What Prometheus reads.

    def render(self, gauges: Gauges) -> bytes:
        """Return the exposition."""
        page = _Page(self._model, self._born)
        for name in ("estimated_flops_per_gpu", "estimated_read_bytes_per_gpu", "estimated_write_bytes_per_gpu"):
            page.counter(name, 0)
        page.gauge("num_requests_running", gauges.running)
        page.gauge("num_requests_waiting", gauges.waiting)
        page.gauges("num_requests_waiting_by_reason", "reason", {"capacity": gauges.waiting, "deferred": 0})
        level = gauges.sleep_level
        states = {"awake": not gauges.asleep, "weights_offloaded": level == 1, "discard_all": level == 2}
        page.gauges("engine_sleep_state", "sleep_state", states)
        page.gauge("kv_cache_usage_perc", gauges.kv_usage)
        page.counter("prefix_cache_queries", self.prompt_tokens)
        page.counter("prefix_cache_hits", self.cached_tokens)
        for name in (
            "external_prefix_cache_queries",
            "external_prefix_cache_hits",
            "mm_cache_queries",
            "mm_cache_hits",
        ):
            page.counter(name, 0)
        page.counter("num_preemptions", self.preemptions)
        page.counter("prompt_tokens", self.prompt_tokens)
        cached = self.cached_tokens
        sources = {"local_compute": self.prompt_tokens - cached, "local_cache_hit": cached, "external_kv_transfer": 0}
        page.counters("prompt_tokens_by_source", "source", sources)
        page.counter("prompt_tokens_cached", cached)
        tiers = {"device": cached, "host": 0, "p2p": 0, "disk": 0, "external_unspecified": 0}
        page.counters("prompt_tokens_cached_by_source", "source", tiers)
        page.counter("generation_tokens", self.generation_tokens)
        page.counters("request_success", "finished_reason", self.finished)
        page.counters("admission_rejections", "reason", self.rejections, engine=False)
        for histogram in self._histograms:
            page.histogram(histogram)
        page.cache_config(self._settings)
        return page.bytes()


class _Page:
    """One exposition in the making; families carry `_created` twins, as the Python client writes them."""

    def __init__(self, model: str, born: float) -> None:
        self._lines: list[str] = []
        self._model = model
        self._born = repr(born)

    def bytes(self) -> bytes:
        return ("\n".join(self._lines) + "\n").encode()

    def gauge(self, name: str, value: float) -> None:
        self._family(name, "gauge", [(self._labels(), value)])

    def gauges(self, name: str, label: str, values: dict[str, bool] | dict[str, int]) -> None:
        self._family(name, "gauge", [(self._labels(label, key), value) for key, value in values.items()])

    def counter(self, name: str, value: float) -> None:
        self._counter(name, [(self._labels(), value)])

    def counters(self, name: str, label: str, values: dict[str, int], *, engine: bool = True) -> None:
        self._counter(name, [(self._labels(label, key, engine=engine), value) for key, value in values.items()])

    def histogram(self, histogram: _Histogram) -> None:
        name = histogram.name
        self._head(name, "histogram")
        total = 0
        for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
            total += count
            self._lines.append(f"vllm:{name}_bucket{self._labels('le', bound)} {float(total)}")
        labels = self._labels()
        self._lines.append(f"vllm:{name}_count{labels} {float(total)}")
        self._lines.append(f"vllm:{name}_sum{labels} {float(histogram.sum)}")
        self._head(f"{name}_created", "gauge")
        self._lines.append(f"vllm:{name}_created{labels} {self._born}")

    def cache_config(self, settings: SimulatorSettings) -> None:
        self._head("cache_config_info", "gauge")
        labels = (
            f'block_size="{settings.block_tokens}",enable_prefix_caching="True",engine="0",'
            f'kv_cache_size_tokens="{settings.kv_blocks * settings.block_tokens}",'
            f'num_gpu_blocks="{settings.kv_blocks}"'
        )
        self._lines.append(f"vllm:cache_config_info{{{labels}}} 1.0")

    def _counter(self, name: str, samples: list[tuple[str, float]]) -> None:
        self._family(f"{name}_total", "counter", samples)
        self._head(f"{name}_created", "gauge")
        self._lines.extend(f"vllm:{name}_created{labels} {self._born}" for labels, _ in samples)

    def _family(self, name: str, kind: str, samples: list[tuple[str, float]]) -> None:
        self._head(name, kind)
        self._lines.extend(f"vllm:{name}{labels} {float(value)}" for labels, value in samples)

    def _head(self, name: str, kind: str) -> None:
        self._lines.append(f"# HELP vllm:{name} Simulated.")
        self._lines.append(f"# TYPE vllm:{name} {kind}")

    def _labels(self, label: str = "", value: str = "", *, engine: bool = True) -> str:
        pairs = {"model_name": self._model}
        if engine:
            pairs["engine"] = "0"
        if label:
            pairs[label] = value
        return "{" + ",".join(f'{key}="{pairs[key]}"' for key in sorted(pairs)) + "}"
