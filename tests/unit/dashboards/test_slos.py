from __future__ import annotations

import re
from pathlib import Path

import pytest

from dashboards.build import files
from dashboards.burn import BURNS, EVERY_S, MIN_BAD, RUSH, rules
from dashboards.outages import OUTAGES, Outage
from dashboards.slos import FASTEST, Slo, SloError, read
from streamkit.ops.catalog import CATALOG
from streamkit.wire.errors import Code

ROOT = Path(__file__).parents[3]
SLOS = read()
#: Codes that break no promise: the client's own, its tenant's limits, and what is about avatars alone.
NOBODY_S_FAULT = {
    *(Code.INVALID_REQUEST, Code.UNAUTHORIZED, Code.FORBIDDEN, Code.NOT_FOUND, Code.MODEL_NOT_FOUND),
    *(Code.METHOD_NOT_ALLOWED, Code.NOT_ACCEPTABLE, Code.REQUEST_TIMEOUT, Code.CONFLICT, Code.GONE),
    *(Code.PRECONDITION_FAILED, Code.TOO_LARGE, Code.UNSUPPORTED_TYPE, Code.UNPROCESSABLE),
    *(Code.PRECONDITION_REQUIRED, Code.HEADERS_TOO_LARGE, Code.OVER_QUOTA, Code.INSUFFICIENT_QUOTA),
    *(Code.SLOW_READER, Code.TAKEN_OVER, Code.STOPPED),
    *(Code.NOT_READY, Code.AT_CAPACITY),
}
RATIO = """
[[slo]]
name = "a"
alert = "A"
says = "something"
objective = {objective}
min_events = {min_events}
bad = ["x_total"]
{more}
"""


@pytest.mark.parametrize("slo", [slo for slo in SLOS if slo.metric], ids=lambda slo: slo.name)
def test_a_threshold_is_a_bucket_boundary_as_it_is_exposed(slo: Slo) -> None:
    (metric,) = [metric for metric in CATALOG if metric.name == slo.metric]
    assert slo.threshold_s in metric.buckets
    assert f'le="{slo.threshold_s}"' in slo.bad_rate


@pytest.mark.parametrize("slo", SLOS, ids=lambda slo: slo.name)
def test_every_alert_has_a_runbook_that_names_it(slo: Slo) -> None:
    alerts = [rule for group in rules(slo)["groups"] for rule in group["rules"] if "alert" in rule]
    assert [alert["labels"]["severity"] for alert in alerts] == ["page", "ticket"]
    for alert in alerts:
        text = (ROOT / alert["annotations"]["runbook_url"]).read_text()
        assert text.startswith(f"# {alert['alert']}\n")
        assert "## Look" in text
        assert "## Do" in text


def test_no_runbook_is_for_an_alert_that_is_gone() -> None:
    there = {path.stem for path in (ROOT / "docs/operations/alerts").glob("*.md")}
    assert there == {slo.name for slo in SLOS} | {outage.name for outage in OUTAGES}


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.name)
def test_every_outage_has_one_too(outage: Outage) -> None:
    text = (ROOT / f"docs/operations/alerts/{outage.name}.md").read_text()
    assert text.startswith(f"# {outage.alert}\n")
    assert "## Look" in text
    assert "## Do" in text


def test_the_page_of_promises_has_them_word_for_word() -> None:
    page = (ROOT / "docs/concepts/promises.md").read_text()
    assert [slo.name for slo in SLOS if f"| {slo.says} |" not in page] == []
    for burn in BURNS:
        assert f"\n| {burn.rate:g} |" in page
    assert f"fewer than {MIN_BAD} bad ones" in page
    for outage in OUTAGES:
        assert f"(../operations/alerts/{outage.name}.md)" in page


@pytest.mark.parametrize("slo", SLOS, ids=lambda slo: slo.name)
def test_nobody_is_called_for_a_handful_or_waits_long_where_nothing_is_good(slo: Slo) -> None:
    """Each line of each alert has both guards, and one line of a page is about minutes."""
    _, alerts = rules(slo)["groups"]
    for alert in alerts["rules"]:
        for line in alert["expr"].split("\nor\n"):
            assert f">= {slo.min_events} and " in line
            assert line.endswith(f" >= {MIN_BAD})")
    page, ticket = (alert["expr"] for alert in alerts["rules"])
    assert f"rate{RUSH[0]}" in page
    assert f"rate{RUSH[0]}" not in ticket


def test_every_code_is_somebody_s_fault_or_nobody_s() -> None:
    """An error that is added to the table is in one promise, or is said here to be in none."""
    judged: list[str] = []
    for slo in SLOS:
        selected = re.findall(r'code=~"([^"]*)"', " ".join(slo.bad))
        judged += {code for codes in selected for code in codes.split("|")}
    assert len(set(judged)) == len(judged), "a code breaks one promise"
    assert {*judged, *NOBODY_S_FAULT} == set(Code)
    assert not NOBODY_S_FAULT & set(judged)


@pytest.mark.parametrize("path", [path for path in files() if path.startswith("rules/")])
def test_only_short_windows_read_what_was_scraped_and_none_is_too_short(path: str) -> None:
    """Four scrapes are a minute where Prometheus is left as it comes; three days of them are too many for a query."""
    raw = re.findall(r"\b(?:rate|increase)\([a-z_]+(?:\{[^}]*\})?\[(\w+)\]", files()[path])
    assert set(raw) <= {"5m"}
    assert bool(raw) is (path != "rules/outages.yml")


@pytest.mark.parametrize("slo", SLOS, ids=lambda slo: slo.name)
def test_events_are_counted_at_the_pace_of_the_recording(slo: Slo) -> None:
    recording, _ = rules(slo)["groups"]
    assert recording["interval"] == f"{EVERY_S}s"
    counted = [rule["expr"] for rule in recording["rules"] if rule["record"].startswith("slo:events:increase")]
    assert len(counted) == len(BURNS) + 1
    assert all(expr.endswith(f" * {EVERY_S}") for expr in counted)
    for test in (ROOT / "dashboards/rules/tests").glob(f"{slo.name}.yml"):
        assert f"\nevaluation_interval: {EVERY_S}s\n" in test.read_text()


def test_no_division_is_by_nothing() -> None:
    for path, text in files().items():
        if path.startswith("rules/"):
            assert all("> 0)" in line for line in text.splitlines() if " / " in line), path


def test_every_rules_file_has_a_test_of_its_own() -> None:
    tests = {path.stem for path in (ROOT / "dashboards/rules/tests").glob("*.yml")}
    assert tests == {slo.name for slo in SLOS} | {"outages"}


@pytest.mark.parametrize("slo", SLOS, ids=lambda slo: slo.name)
def test_no_alert_waits_for_more_than_all(slo: Slo) -> None:
    assert all(burn.rate * slo.budget < 1 for burn in BURNS)
    assert all(re.fullmatch(r"\d+[mhd]", window) for burn in BURNS for window in (burn.long, burn.short))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"objective": 0.9}, f"more than {1 - 1 / FASTEST:.4f}"),
        ({"objective": 1.0}, "less than 1"),
        ({"min_events": 0}, "min_events: expected at least 1"),
        ({"more": ""}, "missing"),
        ({"more": 'all = ["y_total"]\nthreshold = 1'}, "unknown: \\['threshold'\\]"),
        (
            {"more": 'all = ["y_total"]\n' + RATIO.format(objective=0.99, min_events=1, more='all = ["y"]')},
            "same one",
        ),
    ],
)
def test_an_objective_that_makes_no_sense_is_named(tmp_path: Path, fields: dict[str, object], said: str) -> None:
    path = tmp_path / "slos.toml"
    path.write_text(RATIO.format(**{"objective": 0.99, "min_events": 1, "more": 'all = ["y_total"]'} | fields))
    with pytest.raises(SloError, match=said):
        read(path)
