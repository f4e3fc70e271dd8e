"""Pages as Grafana's JSON, through its own SDK."""

from __future__ import annotations

import json
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.panel import Page, Panel

__all__ = ["rendered"]

Drawn = timeseries.Panel | stat.Panel | heatmap.Panel
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${source}")
#: Of the 24 columns, and in rows of 30 pixels.
_WIDE: Final = 8
_HIGH: Final = 8
_TAG: Final = "headrace"
_GOOD: Final = "green"
_BAD: Final = "red"


def rendered(page: Page) -> str:
    """Return the page's JSON: the same bytes for the same page."""
    made = (
        dashboard.Dashboard(page.title)
        .uid(f"headrace-{page.name}")
        .tags([_TAG])
        .refresh(page.every)
        .time(f"now-{page.past}", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink("Headrace")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    if page.of:
        made = made.with_variable(
            dashboard.QueryVariable("instance")
            .label("Instance")
            .datasource(_SOURCE)
            .query(f"label_values({page.of}, instance)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.NATURAL_ASC)
            .include_all(True)
            .all_value(".*")
            .multi(True)
        )
    number = 0
    for row in page.rows:
        number += 1
        made = made.with_row(dashboard.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            made = made.with_panel(_panel(panel, number))
    return json.dumps(made.build(), cls=JSONEncoder, sort_keys=True, indent=2) + "\n"


def _panel(panel: Panel, number: int) -> Drawn:
    """Return one panel; a colour means something only where there is a limit: what is bad is for promises to say."""
    drawn = (
        _empty(panel)
        .id(number)
        .title(panel.title)
        .description(panel.what)
        .no_value("no data")
        .datasource(_SOURCE)
        .span(_WIDE)
        .height(_HIGH)
    )
    if panel.words:
        words = {str(value): ValueMappingResult(text=word) for value, word in panel.words}
        drawn = drawn.mappings([ValueMap(options=words)])
    for place, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + place))
        # The newest number of a range could be an hour old.
        target = target.instant() if panel.drawn == "number" else target.range()
        if panel.drawn == "heat":
            target = target.format(PromQueryFormat.HEATMAP)
        drawn = drawn.with_target(target)
    return drawn


def _empty(panel: Panel) -> Drawn:
    if panel.drawn == "number":
        return stat.Panel().unit(panel.unit).thresholds(_limits(panel))
    if panel.drawn == "heat":
        # The buckets are Prometheus' own: nothing is reckoned anew.
        return heatmap.Panel().calculate(False).y_axis(heatmap.YAxisConfig().unit(panel.unit))
    return _curves(panel)


def _curves(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST)
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    curves = timeseries.Panel().unit(panel.unit).legend(legend.placement(LegendPlacement.BOTTOM)).tooltip(tooltip)
    if panel.stacked:
        curves = curves.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(20)
    if panel.limit is not None:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        curves = curves.thresholds(_limits(panel)).thresholds_style(style)
    return curves if panel.signed else curves.min(0)


def _limits(panel: Panel) -> dashboard.ThresholdsConfig:
    """Return one colour, or two with a limit between them; Grafana's own are red from 80 on, whatever it means."""
    below, above = (_GOOD, _BAD) if panel.worse == "above" else (_BAD, _GOOD)
    steps = [Threshold(value=None, color=_GOOD if panel.limit is None else below)]
    if panel.limit is not None:
        steps.append(Threshold(value=panel.limit, color=above))
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
