from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from edge.endpoints.models import list_models, one_model
from streamkit.wire.errors import Code, HeadraceError
from streamkit.wire.state import BackendState, Header, Snapshot


@dataclass
class Known:
    snapshot: Snapshot | None = None
    age_ms: float | None = 0.0


STATE = Known(
    Snapshot(
        header=Header(instance="c", sequence=1),
        backends=(
            BackendState(name="down", health="down", models=("llama", "old")),
            BackendState(name="up", health="up", models=("llama", "org/qwen")),
        ),
    )
)


def test_the_list_is_openais() -> None:
    reply = list_models(STATE)
    body = json.loads(reply.body)
    assert (reply.status, reply.content_type, body["object"]) == (200, b"application/json", "list")
    assert [row["id"] for row in body["data"]] == ["llama", "old", "org/qwen"]
    for row in body["data"]:
        assert (row["object"], row["created"], row["owned_by"]) == ("model", 0, "headrace")


def test_backends_that_are_up_are_named_first() -> None:
    rows = {row["id"]: row["backends"] for row in json.loads(list_models(STATE).body)["data"]}
    assert rows == {"llama": ["up", "down"], "old": ["down"], "org/qwen": ["up"]}


def test_one_model_by_name_slashes_included() -> None:
    assert json.loads(one_model(STATE, "org/qwen").body)["id"] == "org/qwen"


def test_an_unknown_model_is_a_404_that_names_the_known_ones() -> None:
    with pytest.raises(HeadraceError) as caught:
        one_model(STATE, "gpt")
    assert caught.value.code is Code.MODEL_NOT_FOUND
    assert caught.value.param == "model"
    assert "llama, old, org/qwen" in caught.value.message


def test_before_control_was_heard_there_is_no_list() -> None:
    for ask in (lambda: list_models(Known()), lambda: one_model(Known(), "llama")):
        with pytest.raises(HeadraceError) as caught:
            ask()
        assert caught.value.code is Code.NO_ROUTE
