"""Envoy's example is not run here: tests hold it against its API, and by what every stream needs of an ingress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from tests.unit.docker import schemas

FILE = Path(__file__).parents[3] / "docker/ingress/envoy.yaml"


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["static_resources"]
    return found


@pytest.fixture(scope="module")
def manager(resources: dict[str, Any]) -> dict[str, Any]:
    """The only filter of the only listener."""
    (listener,) = resources["listeners"]
    ((filter_,),) = [chain["filters"] for chain in listener["filter_chains"]]
    config: dict[str, Any] = filter_["typed_config"]
    assert config["@type"].endswith("http_connection_manager.v3.HttpConnectionManager")
    return config


def test_it_is_envoys_as_its_api_has_it() -> None:
    schemas.envoy(yaml.safe_load(FILE.read_text()))


@pytest.mark.parametrize(
    ("there", "wrong"),
    [
        ("lb_policy: LEAST_REQUEST", "lb_policy: LEAST_CONN"),
        (
            "timeout: 0s\n                            retry_policy",
            "time_out: 0s\n                            retry_policy",
        ),
        ("request_timeout: 0s", "request_timeout: never"),
        ("upgrade_type: websocket", "upgrade_kind: websocket"),
        ("http_protocol_options: {}", "http9_protocol_options: {}"),
    ],
)
def test_what_is_none_of_it_is_told_wherever_it_stands(there: str, wrong: str) -> None:
    """In what is typed by its name, too."""
    text = FILE.read_text()
    assert there in text
    with pytest.raises(json_format.ParseError):
        schemas.envoy(yaml.safe_load(text.replace(there, wrong, 1)))


def test_every_type_is_of_the_third_api(resources: dict[str, Any]) -> None:
    def types(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["@type"]] if "@type" in value else []
            return own + [name for inner in value.values() for name in types(inner)]
        return [name for inner in value for name in types(inner)] if isinstance(value, list) else []

    found = types(resources)
    assert len(found) == 3
    assert all(name.startswith("type.googleapis.com/envoy.extensions.") and ".v3." in name for name in found)


def test_every_route_leads_to_a_cluster_and_lets_a_stream_take_its_time(
    resources: dict[str, Any], manager: dict[str, Any]
) -> None:
    clusters = {cluster["name"] for cluster in resources["clusters"]}
    routes = [route["route"] for host in manager["route_config"]["virtual_hosts"] for route in host["routes"]]
    assert routes
    for route in routes:
        assert route["cluster"] in clusters
        assert route["timeout"] == "0s"
        # Whatever reached an edge is never sent a second time.
        assert set(route["retry_policy"]["retry_on"].split(",")) <= {"connect-failure", "refused-stream"}
    assert manager["request_timeout"] == "0s"
    assert {"upgrade_type": "websocket"} in manager["upgrade_configs"]
    assert [one["name"] for one in manager["http_filters"]] == ["envoy.filters.http.router"], "nothing that buffers"


def test_a_cluster_takes_as_many_streams_as_its_nodes_do(resources: dict[str, Any]) -> None:
    """Envoy's own bounds are 1,024 connections, requests and waiting ones for a cluster, and 3 retries."""
    for cluster in resources["clusters"]:
        ((bounds,),) = [cluster["circuit_breakers"]["thresholds"]]
        assert min(bounds[name] for name in ("max_connections", "max_pending_requests", "max_requests")) >= 65_536
        assert bounds["max_retries"] > 3


def test_every_cluster_asks_the_ops_port_whether_a_node_is_ready(resources: dict[str, Any]) -> None:
    for cluster in resources["clusters"]:
        assert cluster["load_assignment"]["cluster_name"] == cluster["name"]
        assert [check["http_health_check"]["path"] for check in cluster["health_checks"]] == ["/readyz"]
        ends = [one["endpoint"] for group in cluster["load_assignment"]["endpoints"] for one in group["lb_endpoints"]]
        assert ends
        for end in ends:
            public = end["address"]["socket_address"]["port_value"]
            assert end["health_check_config"]["port_value"] == public + 10
