from __future__ import annotations

from loadtest.relay.budgets import judge
from loadtest.relay.load.messages import Outcomes
from loadtest.relay.metrics import summarise
from loadtest.relay.runs import GatewayInfo, Machine, Report, Rule, Run, Settings
from loadtest.relay.scenarios import SCENARIOS, StreamScenario
from loadtest.relay.stats import Quantiles
from loadtest.relay.table import WIDTH, render

GATEWAYS = ("direct", "nginx", "headrace", "starlette-aiohttp", "litellm")


def run_of(scenario, gateway: str, number: int) -> Run:
    streams = isinstance(scenario, StreamScenario)
    costs = gateway != "direct"
    return Run(
        scenario=scenario.name,
        gateway=gateway,
        round=number,
        window_s=8.0,
        tokens=4_800_000 * number if streams else 0,
        requests=0 if streams else 8_000,
        delivered_share=1.0 if streams and not scenario.saturating else None,
        outcomes=Outcomes(whole=300, cut=1),
        cpu_us_per_token=493.1 * number if streams and costs else None,
        tree_cpu_us_per_token=493.1 if streams and costs else None,
        cpu_us_per_request=40.0 if not streams and costs else None,
        transit_us=Quantiles(48_000, 12_454.0, 162_130.0, 175_709.0, 180_000.0) if streams else None,
        ttft_ms=Quantiles(800, 11.71 * number, 1145.72, 1150.0, 1160.0),
        rss_bytes_per_stream=140_000.0 * number if streams and scenario.memory and costs else None,
        rss_growth_bytes=1 << 20 if streams and scenario.memory and costs else None,
        kernel_bytes_per_stream=12_000.0 if streams and scenario.memory else None,
    )


def report() -> Report:
    runs = [run_of(scenario, name, number) for scenario in SCENARIOS for number in (1, 2) for name in GATEWAYS]
    summary = summarise(runs)
    return Report(
        machine=Machine(cpu="A Processor", cpus=2, kernel="6.1", python="3.11.7", memory_bytes=1 << 33),
        settings=Settings(
            quick=False, rounds=2, seconds=8.0, load_cpu=0, gateway_cpu=1, scenarios=tuple(s.name for s in SCENARIOS)
        ),
        rule=Rule(foreign_max_share=0.05, load_busy_max_share=0.9, repeats=2),
        gateways=[
            *(GatewayInfo(name=name, version="1.2.3") for name in GATEWAYS),
            GatewayInfo(name="x", missing="no"),
        ],
        runs=runs,
        summary=summary,
        verdicts=judge(summary, ["starlette-aiohttp", "litellm"]),
    )


def test_it_fits_a_terminal():
    assert [line for line in render(report()).splitlines() if len(line) > WIDTH] == []


def test_every_scenario_and_budget_is_there():
    text = render(report())
    for scenario in SCENARIOS:
        assert scenario.title in text
    assert "left out: x (no)" in text
    assert "MISSED" in text
    assert text.count("litellm") >= len(SCENARIOS)
