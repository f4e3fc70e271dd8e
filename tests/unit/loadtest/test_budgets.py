from __future__ import annotations

import msgspec
import pytest

from loadtest.relay.budgets import judge
from loadtest.relay.load.messages import Outcomes
from loadtest.relay.metrics import headline, summarise
from loadtest.relay.runs import Run
from loadtest.relay.stats import Quantiles


def paced(gateway: str, number: int, us: float, p99: float = 200.0, **more: object) -> Run:
    return msgspec.structs.replace(
        Run(
            scenario="paced-20",
            gateway=gateway,
            round=number,
            window_s=8.0,
            tokens=48_000,
            delivered_share=1.0,
            cpu_us_per_token=us,
            tree_cpu_us_per_token=us,
            transit_us=Quantiles(48_000, 80.0, p99, 4 * p99, 9 * p99),
            outcomes=Outcomes(whole=300),
        ),
        **more,
    )


def verdicts_of(runs, **more):
    return {
        (verdict.figure, verdict.budget): verdict for verdict in judge(summarise(runs), ["starlette-httpx"], **more)
    }


FIRST = ("CPU per token, staggered: first", "<= nginx / 0.7")
GOAL = ("CPU per token, staggered: goal", "<= nginx")
PYTHON = ("CPU per token, staggered", "<= starlette-httpx / 2")
P99 = ("transit per token, p99", "<= 2 x nginx")


def test_ratios_are_taken_within_a_round():
    # The machine is twice as slow in round 2, for both.
    runs = [paced("nginx", 1, 20), paced("headrace", 1, 26), paced("nginx", 2, 40), paced("headrace", 2, 52)]
    figure = summarise(runs)[1].figures["cpu_us_per_token"]
    assert figure.ratio_to_nginx is not None
    assert figure.ratio_to_nginx.low == figure.ratio_to_nginx.high == pytest.approx(1.3)
    assert figure.value.median == 39


def test_met_and_missed():
    verdicts = verdicts_of([paced("nginx", 1, 20), paced("headrace", 1, 26, 500.0), paced("starlette-httpx", 1, 100)])
    assert verdicts[FIRST].met is True
    assert verdicts[GOAL].met is False
    assert verdicts[PYTHON].met is True
    assert verdicts[P99].met is False


def test_without_the_other_side_a_budget_stays_open():
    verdicts = verdicts_of([paced("headrace", 1, 26)])
    assert verdicts[FIRST].met is None
    assert verdicts[FIRST].measured == "needs nginx"


def test_void_runs_do_not_count_while_there_are_clean_ones():
    runs = [
        paced("nginx", 1, 20),
        paced("headrace", 1, 90, void="contended"),
        paced("headrace", 1, 24, attempt=2),
    ]
    summary = summarise(runs)[1]
    assert (summary.clean, summary.void, summary.contended) == (1, 1, False)
    assert summary.figures["cpu_us_per_token"].value.median == 24
    assert verdicts_of(runs)[FIRST].met is True


@pytest.mark.parametrize("contended", ["nginx", "headrace"])
def test_figures_of_void_runs_are_shown_but_not_judged(contended):
    runs = [paced(name, 1, 20, void="contended" if name == contended else None) for name in ("nginx", "headrace")]
    verdict = verdicts_of(runs)[FIRST]
    assert verdict.met is None
    assert "contended" in verdict.measured


def test_a_quick_benchmark_judges_no_figures():
    runs = [paced("nginx", 1, 20), paced("headrace", 1, 90)]
    assert {verdict.met for verdict in verdicts_of(runs, quick=True).values()} == {None}


def test_a_failed_run_has_no_figures():
    failed = Run(scenario="idle", gateway="headrace", round=1, failed="does not serve")
    assert summarise([failed])[0].figures == {}
    assert all(verdict.met is None for verdict in judge(summarise([failed]), []))


def idle(lost: int, each: float, growth: int) -> Run:
    return Run(
        scenario="idle",
        gateway="headrace",
        round=1,
        window_s=10.0,
        tokens=4000,
        outcomes=Outcomes(whole=2000 - lost, cut=lost),
        rss_bytes_per_stream=each,
        rss_growth_bytes=growth,
        kernel_bytes_per_stream=9000.0,
    )


def test_idle_streams():
    good = {verdict.figure: verdict.met for verdict in judge(summarise([idle(0, 20 * 1024.0, 0)]), [])}
    assert good == {"RSS per open idle stream": True, "RSS while they are held": True, "idle streams lost": True}
    bad = {verdict.figure: verdict.met for verdict in judge(summarise([idle(1, 30 * 1024.0, 1 << 24)]), [])}
    assert set(bad.values()) == {False}


def test_the_headline_says_what_was_lost():
    assert "1 LOST" in headline(idle(1, 1.0, 0))
    assert "50% delivered" in headline(paced("nginx", 1, 20, delivered_share=0.5))
