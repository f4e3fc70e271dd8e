"""Client tokens through a whole gateway: issued at one edge, used at it, and void with their key or their secret."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from control.store import NewKey, Store
from streamkit.wire.keys import CLIENT_TOKENS
from tests.support.exchange import Answer, ask, chat
from tests.support.processes import until
from tests.support.rig import MODEL, Rig, rig

PAGE = "https://app.example"


class Site:
    """A gateway whose one tenant has one key at the start."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.store = Store(rig.folder / ".headrace" / "7400" / "control.db")
        self.key = self.store.create_key("acme")
        until(lambda: self.post("").status == 401 and self.post(self.key.key).status == 200)

    def post(self, credential: str, **headers: str) -> Answer:
        bearer = {"authorization": f"Bearer {credential}"} if credential else {}
        return self.rig.post(chat(), {"x-sim": "tokens=2", **bearer, **headers})

    def token(self, key: NewKey | None = None, **members: Any) -> str:
        answer = self.ask((key or self.key).key, **members)
        assert answer.status == 200, answer.body
        return str(answer.json["token"])

    def ask(self, credential: str, **members: Any) -> Answer:
        bearer = {"authorization": f"Bearer {credential}"} if credential else {}
        return ask(self.rig.url, "/v1/client_tokens", members or b"{}", headers=bearer)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with rig(tmp_path_factory.mktemp("tokens"), {"alpha": {}}, edge={"client_token_max_ms": 900_000}) as ours:
        found = Site(ours)
        yield found
        found.store.close()


def test_what_is_issued(site: Site) -> None:
    answer = site.ask(site.key.key)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json
    assert made.pop("token").startswith("hrt-")
    assert abs(made.pop("expires_at") - (time.time() + 600)) < 30
    assert made == {
        "object": "client_token",
        "expires_in_s": 600,
        "models": None,
        "avatars": None,
        "origin": None,
        "max_priority": 1,
        "user": None,
    }
    scope = {"models": [MODEL], "avatars": [], "origin": PAGE, "max_priority": 4, "user": "u7"}
    made = site.ask(site.key.key, expires_in_s=60, **scope).json
    assert {name: made[name] for name in scope} == scope
    assert made["expires_in_s"] == 60


def test_the_openai_sdk_works_with_one_and_a_scope_violation_names_the_scope(site: Site) -> None:
    token = site.token(models=[MODEL])
    client = openai.OpenAI(base_url=f"{site.rig.url}/v1", api_key=token, max_retries=0)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            stream=True,
            messages=[{"role": "user", "content": "hi"}],
            extra_headers={"x-sim": "tokens=3"},
        )
    )
    assert chunks[-1].choices[0].finish_reason
    assert [model.id for model in client.models.list()] == [MODEL]
    with pytest.raises(openai.PermissionDeniedError, match=f"scoped to models: {MODEL}; `other` is not among them"):
        client.chat.completions.create(model="other", messages=[])
    with pytest.raises(openai.PermissionDeniedError, match="scoped to models"):
        client.embeddings.create(model="other", input="x")
    with pytest.raises(openai.PermissionDeniedError, match="scoped to models"):
        client.models.retrieve("other")
    client.close()
    narrow = site.token(models=["other"])
    answer = site.post(narrow)
    assert (answer.status, answer.json["error"]["param"]) == (403, "model")
    listed = ask(site.rig.url, "/v1/models", headers={"authorization": f"Bearer {narrow}"}).json
    assert listed["data"] == []


def test_a_token_of_a_page_is_for_that_page(site: Site) -> None:
    token = site.token(origin=PAGE)
    assert site.post(token, origin=PAGE).status == 200
    for headers in ({}, {"origin": "https://evil.example"}):
        answer = site.post(token, **headers)
        assert (answer.status, answer.json["error"]["param"]) == (403, "origin")
        assert PAGE in answer.json["error"]["message"]


def test_only_a_key_makes_tokens(site: Site) -> None:
    assert site.ask("").status == 401
    assert site.ask("hr-" + "0" * 64).status == 401
    answer = site.ask(site.token())
    assert (answer.status, "makes no others" in answer.json["error"]["message"]) == (403, True)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"expires_in_s": 901}, "expires_in_s", "client_token_max_ms"),
        ({"expires_in_s": 0}, "expires_in_s", ">= 1"),
        ({"expires_in_s": "600"}, "expires_in_s", "Expected `int"),
        ({"model": "m"}, "model", "known are expires_in_s, models"),
        ({"models": "m"}, "models", "Expected `array"),
        ({"models": [""]}, "models[0]", "length >= 1"),
        ({"models": ["m"] * 65}, "models", "length <= 64"),
        ({"models": [f"{n:0250}" for n in range(20)]}, "models", "Too many names"),
        ({"origin": "https://app.example/"}, "origin", "as a browser writes it"),
        ({"origin": "https://app.example\n"}, "origin", "as a browser writes it"),
        ({"max_priority": 0}, "max_priority", ">= 1"),
        ({"user": "a b"}, "user", "visible ASCII"),
        (b"[]", "body", "must be a JSON object"),
        (b"{", "body", "not valid JSON"),
        (b"\xff", "body", "not valid JSON"),
        (b"[" * 5_000, "body", "must be a JSON object"),
    ],
)
def test_a_bad_body_names_its_field(site: Site, body: Any, field: str, words: str) -> None:
    bearer = {"authorization": f"Bearer {site.key.key}"}
    answer = ask(site.rig.url, "/v1/client_tokens", body, headers=bearer)
    error = answer.json["error"]
    assert (answer.status, error["param"]) == (400, field), error
    assert words in error["message"]


def test_a_large_body_and_another_method_are_refused(site: Site) -> None:
    bearer = {"authorization": f"Bearer {site.key.key}"}
    assert ask(site.rig.url, "/v1/client_tokens", b" " * 20_000, headers=bearer).status == 413
    answer = ask(site.rig.url, "/v1/client_tokens", headers=bearer)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_a_token_dies_with_its_key_and_every_token_with_the_secret(site: Site) -> None:
    second = site.store.create_key("acme")
    until(lambda: site.post(second.key).status == 200)
    of_first, of_second = site.token(), site.token(second)
    assert site.post(of_first).status == site.post(of_second).status == 200
    site.store.revoke_key(second.id)
    until(lambda: site.post(of_second).status == 401)
    assert "was revoked" in site.post(of_second).json["error"]["message"]
    assert site.post(of_first).status == 200
    site.store.rotate_secret(CLIENT_TOKENS)
    until(lambda: site.post(of_first).status == 401)
    assert site.post(site.key.key).status == 200
    assert site.post(site.token()).status == 200
    said = "".join(path.read_text() for path in Path(site.rig.folder).glob("*.log"))
    assert "hrt-" not in said
    assert site.key.key not in said


def test_control_is_not_asked(site: Site) -> None:
    site.rig.kill("control")
    assert site.post(site.token()).status == 200
    site.rig.start_control()


def test_without_keys_there_is_nothing_to_scope(tmp_path: Path) -> None:
    with rig(tmp_path, {}) as bare:
        answer = ask(bare.url, "/v1/client_tokens", b"{}")
        assert answer.status == 401
        assert "headrace keys create" in answer.json["error"]["message"]
