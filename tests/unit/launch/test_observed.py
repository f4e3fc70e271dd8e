"""What `headrace up` fills in for its observability centre: whose events, which broker, which edge."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from launch.config import section
from launch.configuration import Configuration
from launch.observed import observing, probing
from streamkit.wire.backend import Backend

FOLDER = Path("/run/here")


def plan(**edge: Any) -> Configuration:
    engine = Backend(name="gpu", engine="vllm", url="http://127.0.0.1:9")
    base = Configuration(section(None, "edge"), section(None, "control"), (engine,), None)
    found = dataclasses.replace(base, observe=section(None, "observe"), prober=section(None, "prober"))
    return dataclasses.replace(found, edge=msgspec.structs.replace(found.edge, **edge))


def child(**ready: Any) -> Any:
    return SimpleNamespace(ready=ready)


def test_feeds_are_those_of_the_services_that_run_each_worker_for_itself():
    found = observing(plan(workers=2, ops_host="::1"), {}, FOLDER, "")
    assert found.feeds == (
        "edge=http://[::1]:7410",
        "edge-1=http://[::1]:7411",
        "control=http://127.0.0.1:7429",
    )
    assert found.state_dir == "/run/here/observe"


def test_on_free_ports_the_addresses_are_those_of_the_running_ones():
    children = {
        "edge": child(
            ops_url="http://127.0.0.1:5",
            workers=[{"ops_url": "http://127.0.0.1:5"}, {"ops_url": "http://127.0.0.1:6"}],
        ),
        "control": child(ops_url="http://127.0.0.1:7"),
    }
    found = observing(plan(ops_port=0), children, FOLDER, "nats://127.0.0.1:8")
    assert found.feeds == ("edge=http://127.0.0.1:5", "edge-1=http://127.0.0.1:6", "control=http://127.0.0.1:7")
    assert found.nats_url == "nats://127.0.0.1:8"


def test_what_the_file_says_stands():
    given = msgspec.structs.replace(
        section(None, "observe"),
        feeds=("edge=http://10.0.0.1:7410",),
        nats_url="nats://10.0.0.2:4222",
        state_dir="/x",
    )
    whole = dataclasses.replace(plan(), observe=given)
    assert observing(whole, {}, FOLDER, "nats://127.0.0.1:8") == given


def test_the_edge_of_this_machine_is_probed_where_there_is_a_table_for_it():
    def url(name: str, host: str, port: int) -> str:
        return f"https://{host}:{port}"

    secure = plan(tls_cert="/cert.pem")
    found = probing(secure, url, "http://127.0.0.1:9999")
    assert found is not None
    assert (found.edges, found.ca_file) == (("https://127.0.0.1:7400",), "/cert.pem")
    assert found.control_url == "http://127.0.0.1:9999"
    named = dataclasses.replace(secure, prober=msgspec.structs.replace(section(None, "prober"), edges=("https://x",)))
    assert probing(named, url, None) == named.prober
    assert probing(dataclasses.replace(secure, prober=None), url, None) is None
