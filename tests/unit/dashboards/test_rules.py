"""The generated rules as Prometheus and whoever is on call take them: all of it is used, and leads somewhere."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.build import HERE
from dashboards.pages import PAGES

ROOT = Path(__file__).parents[3]
FILES = sorted(HERE.glob("rules/*.yml"))
_RECORDED = re.compile(r"\bslo:[a-z_]+:[a-z_]+\d+[mhd]")


def rules_of(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


RULES = [rule for path in FILES for rule in rules_of(path)]
ALERTS = [rule for rule in RULES if "alert" in rule]


def called(alert: dict[str, Any]) -> str:
    return f"{alert['alert']} {alert['labels']['severity']}"


def test_groups_have_names_of_their_own_and_hold_something() -> None:
    groups = [group for path in FILES for group in yaml.safe_load(path.read_text())["groups"]]
    assert Counter(group["name"] for group in groups).most_common(1)[0][1] == 1
    assert all(group["rules"] for group in groups)
    assert all(set(rule) & {"alert", "record"} for rule in RULES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_recorded_is_asked_for_and_what_is_asked_for_is_recorded(path: Path) -> None:
    """By an alert, another rule, or a panel: a series that nobody reads costs an evaluation twice a minute."""
    recorded = {(rule["record"], rule["labels"]["slo"]) for rule in rules_of(path) if "record" in rule}
    exprs = [rule["expr"] for rule in rules_of(path)]
    exprs += [query.expr for page in PAGES for row in page.rows for panel in row.panels for query in panel.queries]
    asked = {
        (match[1], match[2])
        for expr in exprs
        for match in re.finditer(rf'({_RECORDED.pattern})\{{slo="(\w+)"\}}', expr)
    }
    # Nothing is asked for without saying of which promise.
    assert sum(len(_RECORDED.findall(expr)) for expr in exprs) == sum(
        len(re.findall(rf'{_RECORDED.pattern}\{{slo="', expr)) for expr in exprs
    )
    assert recorded <= asked, "recorded, and nobody asks for it"
    assert {(name, slo) for name, slo in asked if slo == path.stem} <= recorded, "asked for, and not recorded"


@pytest.mark.parametrize("alert", ALERTS, ids=called)
def test_an_alert_says_how_urgent_what_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"Headrace[A-Z][A-Za-z]+", alert["alert"])
    assert alert["labels"]["severity"] in ("page", "ticket")
    notes = alert["annotations"]
    assert notes["summary"].endswith((".", "!"))
    assert notes["summary"] == notes["summary"].strip()
    place, _, anchor = notes["runbook_url"].partition("#")
    text = (ROOT / place).read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert not anchor or anchor in anchors
    # The first heading is the alert's own name: whoever is called sees at once that it is the right page.
    assert headings[0] == alert["alert"]
    # Everything that a template names is there to be filled in.
    for note in notes.values():
        named = re.findall(r"\{\{ *\$labels\.(\w+)", note)
        assert all(label in ("instance", "job") or label in alert["expr"] for label in named)


def test_each_alert_is_told_apart_by_its_name_and_urgency() -> None:
    assert Counter(called(alert) for alert in ALERTS).most_common(1)[0][1] == 1


def test_there_is_a_promtool_test_in_which_each_alert_fires_and_one_in_which_it_does_not() -> None:
    fired: set[str] = set()
    quiet: set[str] = set()
    for path in HERE.glob("rules/tests/*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for asked in test["alert_rule_test"]:
                fired |= {f"{asked['alertname']} {one['exp_labels']['severity']}" for one in asked["exp_alerts"]}
                if not asked["exp_alerts"]:
                    quiet.add(asked["alertname"])
    assert fired == {called(alert) for alert in ALERTS}
    assert quiet == {alert["alert"] for alert in ALERTS}
