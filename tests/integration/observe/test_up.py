"""`headrace up` with an observability centre: its broker keeps events, its edge is probed, usage is counted."""

from __future__ import annotations

import pytest

from tests.support.exchange import ask, chat
from tests.support.gateway import FAST, Gateway, start_gateway
from tests.support.processes import until

pytestmark = pytest.mark.slow
CENTRE = f'{FAST}\n[nats]\n[observe]\nsite = "here"\nstream_bytes = 1_000_000\n[prober]\nevery_ms = 200\n'


def test_a_machine_keeps_its_events_probes_its_edge_and_counts():
    ours: Gateway = start_gateway(CENTRE)
    try:
        services = {entry["name"]: entry for entry in ours.up.ready()["services"]}
        assert {"nats", "observe"} <= set(services)
        centre = str(services["observe"]["url"])
        answer = ask(ours.edge_url, "/v1/chat/completions", chat(model="sim-chat"), headers={"x-sim": "tokens=7"})
        assert answer.status == 200

        def counted() -> bool:
            rows = ask(centre, "/v1/usage?by=tenant,model").json["rows"]
            return [(row["tenant"], row["model"], row["completion_tokens"]) for row in rows] == [
                ("default", "sim-chat", 7)
            ]

        until(counted, what="seven tokens, and none of the probes")

        def probed() -> bool:
            paths = ask(centre, "/v1/paths").json
            return [(path["backend"], path["result"], path["sick"]) for path in paths] == [
                ("simulator-vllm", "ok", False)
            ]

        until(probed, what="the path to the simulator is probed")
        ops = ask(str(services["observe"]["ops_url"]), "/metrics").body.decode()
        assert 'headrace_feeds_connected{feed="edge"} 1.0' in ops
        assert 'headrace_feeds_connected{feed="control"} 1.0' in ops
        assert ask(str(services["observe"]["ops_url"]), "/readyz").status == 200
    finally:
        assert ours.stop() == 0
