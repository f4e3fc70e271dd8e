"""Two edge processes, control and a simulator: a stream of one is resumed through the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.exchange import Answer, Exchange, chat, stream
from tests.support.processes import until
from tests.support.rig import Rig, rig

TOKENS = 60
SIM = f"tokens={TOKENS},itl_ms=10"


@pytest.fixture(params=["unix", "tls"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Two edges of one node, or of two."""
    tables: list[dict[str, Any]] = [{"node": "n", "peer_dir": str(tmp_path / "peers")} for _ in range(2)]
    if request.param == "tls":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        for number, table in enumerate(tables):
            cert = authority.issue_cert("localhost")
            cert.cert_chain_pems[0].write_to_path(str(tmp_path / f"{number}.pem"))
            cert.private_key_pem.write_to_path(str(tmp_path / f"{number}.key"))
            table |= {
                "node": f"n{number}",
                "peer_host": "127.0.0.1",
                "peer_port": 0,
                "peer_name": "localhost",
                "peer_cert_file": str(tmp_path / f"{number}.pem"),
                "peer_key_file": str(tmp_path / f"{number}.key"),
                "peer_ca_file": str(tmp_path / "ca.pem"),
            }
    control = {"edge_lost_ms": 500}
    with rig(tmp_path, {"alpha": {}}, control=control, without=("edge",)) as ours:
        ours.start_edge("edge", settings=tables[0])
        ours.start_edge("second", settings=tables[1])
        ours.wait_models("tiny")
        yield ours


def events(body: bytes) -> dict[int, bytes]:
    """Return a resumable stream's events by number; AssertionError where two have the same."""
    found = re.findall(rb"id: ([0-9]+)\n(data: .*?\n\n)", body, re.DOTALL)
    numbers = [int(number) for number, _ in found]
    assert numbers == sorted(set(numbers))
    return {int(number): event for number, event in found}


def resume(url: str, stream_id: str, after: int) -> Answer:
    with Exchange(url) as client:
        return client.send("GET", f"/v1/streams/{stream_id}", headers={"last-event-id": str(after)}).read()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_phone_that_changes_its_network_loses_no_token(site: Rig) -> None:
    other = site.url_of("second")
    with stream(site.url, SIM) as client:
        whole = client.read()
    with Exchange(site.url) as client:
        client.send("POST", "/v1/chat/completions", chat(stream=True), {"x-sim": SIM, "x-headrace-resume": "30"})
        stream_id = client.head().headers["x-headrace-stream"]
        while client.answer.body.count(b"data:") < 10:
            client.chunk()
        first = client.answer.body
        client.reset()
    got = events(first)
    second = until(
        lambda: answer if (answer := resume(other, stream_id, max(got))).status == 200 else None,
        what="the other edge has heard of the owner",
    )
    assert second.headers["x-headrace-stream"] == stream_id
    joined = {**got, **events(second.body)}
    assert list(joined) == list(range(1, max(joined) + 1)), "no gap and nothing twice"
    assert len(got) + len(events(second.body)) == len(joined)
    texts = [Answer(200, {}, [b"".join(joined.values())]), whole]
    assert texts[0].done
    assert texts[0].text == texts[1].text
    assert site.metric("headrace_resumes_total") == 1
    # A stop through the other one, too.
    with Exchange(other) as client:
        assert client.send("DELETE", f"/v1/streams/{stream_id}").read().status == 204
    site.wait_quiet()
    assert resume(other, stream_id, 0).status == 410
    # And an owner that was killed is gone.
    with Exchange(site.url) as client:
        client.send("POST", "/v1/chat/completions", chat(stream=True), {"x-sim": SIM, "x-headrace-resume": "30"})
        stream_id = client.head().headers["x-headrace-stream"]
        site.kill("edge")
    until(lambda: resume(other, stream_id, 0).status == 410, ms=10_000, what="control has forgotten the owner")
    # Until then it may only have said that it cannot be reached; an id that nobody made stays unknown.
    assert resume(other, stream_id[:-1] + ("0" if stream_id[-1] != "0" else "1"), 0).status == 404
