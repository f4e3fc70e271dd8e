"""The pages as Grafana takes them: by its SDK's own model of the schema, and by what that model does not check."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.build import HERE
from dashboards.pages import PAGES

NAMES = [page.name for page in PAGES]
#: Of `getValueFormats` in @grafana/data 11.6.0, those that mean what the panels' numbers are.
UNITS = {"s", "bytes", "percentunit", "short", "ops", "reqps", "bool", "binBps"}
#: What Grafana's own picker offers, by default.
REFRESHES = {"5s", "10s", "30s", "1m", "5m", "15m", "30m", "1h", "2h", "1d"}
#: Grafana's, beside those of the page.
BUILT_IN = {"__rate_interval"}


def page(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / f"generated/{name}.json").read_text())
    return found


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in page(name)["panels"] if panel["type"] != "row"]


def targets(name: str) -> list[tuple[str, dict[str, Any]]]:
    return [(panel["title"], target) for panel in panels(name) for target in panel["targets"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_sdk_reads_what_it_wrote_and_loses_nothing(name: str) -> None:
    """What the schema does not know is dropped on the way: a misspelt or misplaced member would be gone."""
    register_default_plugins()
    again = json.loads(json.dumps(Dashboard.from_json(page(name)), cls=JSONEncoder))
    for panel in again["panels"]:
        # The reader makes an empty one where there was none.
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        if defaults.get("custom") == {}:
            del defaults["custom"]
    assert again == page(name)


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_numbers_of_their_own_and_do_not_lie_over_each_other(name: str) -> None:
    found = page(name)
    assert found["schemaVersion"] == 41
    assert Counter(panel["id"] for panel in found["panels"]).most_common(1)[0][1] == 1
    cells: Counter[tuple[int, int]] = Counter()
    for panel in found["panels"]:
        at = panel["gridPos"]
        assert at["w"] > 0 < at["h"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells.update(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
    assert cells.most_common(1)[0][1] == 1
    # Rows that are open stand above their panels, and hold none.
    assert all(panel["panels"] == [] for panel in found["panels"] if panel["type"] == "row")
    assert found["panels"][0]["type"] == "row"


def test_pages_have_addresses_of_their_own_and_lead_to_each_other() -> None:
    found = [page(name) for name in NAMES]
    assert len({one["uid"] for one in found}) == len({one["title"] for one in found}) == len(PAGES)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", one["uid"]) for one in found)
    for one in found:
        (link,) = one["links"]
        assert link["type"] == "dashboards"
        assert set(link["tags"]) <= set(one["tags"])
        assert link["keepTime"]


@pytest.mark.parametrize("name", NAMES)
def test_the_time_range_and_the_pace_are_words_of_grafana(name: str) -> None:
    found = page(name)
    assert found["time"]["to"] == "now"
    assert re.fullmatch(r"now-\d+[mhd]", found["time"]["from"])
    assert found["refresh"] in REFRESHES


@pytest.mark.parametrize("name", NAMES)
def test_variables_are_used_and_nothing_else_is(name: str) -> None:
    variables = {variable["name"]: variable for variable in page(name)["templating"]["list"]}
    bare = json.dumps(page(name)["panels"])
    used = set(re.findall(r"\$\{?(\w+)", bare)) - BUILT_IN
    assert used == set(variables), "a variable that is not there, or that nothing uses"
    assert variables["source"]["type"] == "datasource"
    assert variables["source"]["query"] == "prometheus"
    if "instance" in variables:
        instance = variables["instance"]
        assert instance["datasource"]["uid"] == "${source}"
        assert re.fullmatch(r"label_values\(.+, instance\)", instance["query"])
        # Of several, Grafana makes `a|b`: only a regular expression takes that.
        assert instance["multi"]
        assert instance["includeAll"]
        assert all(
            '=~"$instance"' in part for part in re.findall(r'instance..?"\$instance"', bare.replace('\\"', '"'))
        )


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_asks_the_chosen_prometheus_and_says_when_there_is_nothing(name: str) -> None:
    for panel in panels(name):
        assert panel["type"] in {"timeseries", "stat", "heatmap"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
        assert panel["fieldConfig"]["defaults"]["noValue"] == "no data"
        assert panel["title"].strip() == panel["title"] != ""
        assert len(panel["description"]) >= 10
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == [chr(ord("A") + place) for place in range(len(refs))]
        for target in panel["targets"]:
            assert target.get("instant", False) is (panel["type"] == "stat")
            assert target.get("range", False) is (panel["type"] != "stat")
            assert target.get("format") == ("heatmap" if panel["type"] == "heatmap" else None)


@pytest.mark.parametrize("name", NAMES)
def test_units_are_ids_that_grafana_knows(name: str) -> None:
    for panel in panels(name):
        unit = panel["options"]["yAxis"]["unit"] if panel["type"] == "heatmap" else None
        assert (unit or panel["fieldConfig"]["defaults"]["unit"]) in UNITS, panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_rows_have_titles_and_are_not_empty(name: str) -> None:
    """A row's panels are those below it, up to the next row; each begins where the one above has ended."""
    found = sorted(page(name)["panels"], key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    kinds = [panel["type"] for panel in found]
    assert all(panel["title"] for panel in found)
    assert not any(one == other == "row" for one, other in itertools.pairwise(kinds)), "a row without panels"
    assert kinds[-1] != "row"
    bottom = 0
    for _, level in itertools.groupby(found, key=lambda panel: panel["gridPos"]["y"]):
        panels_of = list(level)
        assert panels_of[0]["gridPos"]["y"] == bottom, "a hole in the page"
        assert panels_of[0]["gridPos"]["x"] == 0
        bottom += max(panel["gridPos"]["h"] for panel in panels_of)


@pytest.mark.parametrize("name", NAMES)
def test_limits_are_in_order_and_a_number_is_coloured_by_nothing_else(name: str) -> None:
    for panel in panels(name):
        limits = panel["fieldConfig"]["defaults"].get("thresholds")
        # Without any, a stat is red from 80 on: Grafana's own, whatever the unit.
        assert limits or panel["type"] != "stat", panel["title"]
        if limits:
            first, *others = [step["value"] for step in limits["steps"]]
            assert first is None
            assert others == sorted(others)
            assert len({step["color"] for step in limits["steps"]}) == len(limits["steps"])


@pytest.mark.parametrize("name", NAMES)
def test_legends_name_only_labels_that_the_lines_have(name: str) -> None:
    """By the text of the query; what Prometheus makes of it is seen in the run."""
    for title, target in targets(name):
        wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert target["legendFormat"]
        kept = [set(re.split(r",\s*", found)) for found in re.findall(r"\bby \(([^)]*)\)", target["expr"])]
        assert all(wanted <= labels for labels in kept), title
        assert kept or not wanted, title
        # The 0 of what nobody has counted yet has them as well.
        assert all(
            f'vector(0), "{label}"' in target["expr"] or f', "{label}", "' in target["expr"]
            for label in wanted
            if "vector(0)" in target["expr"]
        ), title


@pytest.mark.parametrize("name", NAMES)
def test_lines_of_a_panel_are_not_called_the_same(name: str) -> None:
    for panel in panels(name):
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends), panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_windows_are_grafana_s_own(name: str) -> None:
    """A window of a number could be shorter than four scrapes, wherever that Prometheus scrapes slowly."""
    for title, target in targets(name):
        assert set(re.findall(r"\[([^\]]*)\]", target["expr"])) <= {"$__rate_interval"}, title


@pytest.mark.parametrize("name", NAMES)
def test_an_axis_begins_at_zero_unless_less_means_something(name: str) -> None:
    signed = {panel["title"] for panel in panels(name) if panel["type"] == "timeseries"}
    signed -= {panel["title"] for panel in panels(name) if panel["fieldConfig"]["defaults"].get("min") == 0}
    assert signed == ({"GPU last measured", "Pressure"} if name == "core-gpu" else set())
