"""`headrace up` with a simulator of each engine, as its only backend."""

from __future__ import annotations

import json

import pytest

from tests.support.exchange import ask
from tests.support.gateway import start_gateway
from tests.support.processes import until

FAST = "[control]\nprobe_interval_ms = 200\n[simulator]\nttft_ms = 2.0\nitl_ms = 1.0\n"


@pytest.mark.parametrize("engine", ["ollama", "llama-server"])
def test_a_chat_with_each(engine: str) -> None:
    up = start_gateway(FAST + f'engine = "{engine}"\n')
    try:
        body = {"model": "sim-chat", "stream": True, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
        answer = ask(up.edge_url, "/v1/chat/completions", body)
        assert (answer.status, answer.done, answer.finish_reasons) == (200, True, ["length"])
        assert answer.headers["x-headrace-simulated"] == "1"
    finally:
        up.stop()


def test_a_prediction() -> None:
    up = start_gateway(FAST + 'engine = "tfserving"\nmodels = ["half_plus_two"]\n')
    try:

        def told() -> bool:
            answer = ask(up.edge_url, "/v1/models/half_plus_two:predict", json.dumps({"instances": [1, 2]}).encode())
            return answer.status == 200 and answer.json == {"predictions": [2.5, 3.0]}

        until(told, what="a prediction")
    finally:
        up.stop()
