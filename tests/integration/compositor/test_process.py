"""`headrace compositor` as a process, and beside an inference server in `headrace up`."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator

import grpc
import pytest
import trustme

from streamkit.wire.pb import compositor_pb2 as pb
from streamkit.wire.pb.compositor_pb2_grpc import CompositorStub
from tests.support.compositor import compositor
from tests.support.processes import launch, until

MINE = """\
[simulator]
[inference]
[compositor]
codecs = ["h264"]
[[avatars]]
id = "anna"
width = 256
height = 256
[[avatars]]
id = "bert"
width = 320
height = 256
"""


def test_it_answers_is_listed_and_stops(tmp_path):
    (tmp_path / "mine.toml").write_text(MINE)
    line = ["--config", "mine.toml", "--port", "0", "--ops-port", "0", "--inference", "127.0.0.1:1"]
    with launch("compositor", *line, folder=tmp_path, name="compositor") as running:
        ready = running.ready()
        assert (ready["kind"], ready["avatars"], ready["codecs"]) == ("compositor", ["anna", "bert"], ["h264"])
        with grpc.insecure_channel(str(ready["url"]).removeprefix("grpc://")) as channel:
            found = CompositorStub(channel).ListAvatars(pb.ListAvatarsRequest(), timeout=30).avatars
            assert [(avatar.avatar, avatar.width, avatar.fps) for avatar in found] == [
                ("anna", 256, 25),
                ("bert", 320, 25),
            ]
        with urllib.request.urlopen(f"{ready['ops_url']}/metrics", timeout=10) as answer:
            assert b"headrace_compositor_sessions 0.0" in answer.read()
        assert running.stop() == 0


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        (
            '[compositor]\nhost = "0.0.0.0"\n',
            "compositor: host: 0.0.0.0 is reached by others, so it needs mutual TLS",
        ),
        (
            '[compositor]\ncodecs = ["av1"]\n',
            'compositor.codecs[0]: expected one of "h264", "mjpeg", "vp8", "vp9", got "av1"',
        ),
        ('[[avatars]]\nid = "../a"\n', "avatars[0].id"),
        ('[[avatars]]\nid = "a"\n[[avatars]]\nid = "a"\n', 'avatars[1].id: "a" is there twice'),
        ('[[avatars]]\nid = "a"\nheight = 250\n', "avatars[0].height: expected a multiple of 4, got 250"),
        ('[[avatars]]\nid = "a"\ntemplate = "x"\n', "avatars[0].crop: expected left, top and side, got []"),
        (
            '[[avatars]]\nid = "a"\ntemplate = "x"\ncrop = [400, 0, 200]\n',
            "avatars[0].crop: expected a square of at least 32",
        ),
        ('[[avatars]]\nid = "a"\ncrop = [0, 0, 200]\n', "avatars[0].crop: expected none"),
        ('[compositor]\ninference_ca_file = "/nowhere"\n', "inference_ca_file: /nowhere: cannot be read"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(tmp_path, toml, words, capsys):
    from launch.cli import main

    (tmp_path / "bad.toml").write_text(toml)
    assert main(["compositor", "--config", str(tmp_path / "bad.toml"), "--port", "0", "--ops-port", "0"]) == 2
    told = capsys.readouterr().err
    assert words in told, told


@pytest.mark.slow
def test_up_starts_it_beside_the_inference_server_and_leaves_it_out_when_asked(tmp_path):
    (tmp_path / "given.toml").write_text(MINE)
    options = ["--config", "given.toml", "--port-base", "0"]
    with launch("up", *options, folder=tmp_path, name="up") as running:
        services = {entry["name"]: entry for entry in running.ready()["services"]}
        ours = services["compositor"]
        assert (ours["kind"], ours["avatars"]) == ("compositor", ["anna", "bert"])
        until(lambda: "anna, bert (h264)" in running.output(), what="its row")
        with grpc.insecure_channel(str(ours["url"]).removeprefix("grpc://")) as channel:
            stub = CompositorStub(channel)
            until(lambda: stub.Health(pb.HealthRequest(), timeout=30).inference, what="its inference server")
            assert all(avatar.ready for avatar in stub.ListAvatars(pb.ListAvatarsRequest(), timeout=30).avatars)
        # The edge was told where it is.
        with urllib.request.urlopen(f"{services['edge']['url']}/v1/avatars", timeout=10) as answer:
            assert [row["id"] for row in json.load(answer)["data"]] == ["anna", "bert"]
    with launch("up", *options, "--no-avatar", folder=tmp_path, name="without") as running:
        assert "compositor" not in {entry["name"] for entry in running.ready()["services"]}


def test_both_ends_of_the_way_to_the_mouths_show_certificates(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("server", "compositor"):
        cert = authority.issue_cert("127.0.0.1")
        cert.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        cert.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    files = {"tls_cert_file": "server.pem", "tls_key_file": "server.key", "tls_client_ca_file": "ca.pem"}
    lines = "\n".join(f'{key} = "{tmp_path / name}"' for key, name in files.items())
    ours = {
        "inference_ca_file": str(tmp_path / "ca.pem"),
        "tls_cert_file": str(tmp_path / "compositor.pem"),
        "tls_key_file": str(tmp_path / "compositor.key"),
    }

    async def scenario(address: str) -> None:
        async with compositor(address, **ours) as door, door.session() as caller:
            await door.warm()
            await caller.send(say=pb.Say(epoch=1, speech=1, text="aaa"))
            await caller.marked(pb.Mark.FINISHED, 1)
            assert any(unit.timing.inference_us for unit in caller.units)
        async with compositor(address, inference_ca_file=ours["inference_ca_file"]) as door:
            # Without a certificate of its own it is not let in.
            assert not door.studio.link.answers

    file = tmp_path / "inference.toml"
    file.write_text(f"[inference]\n{lines}\n")
    line = ["--config", str(file), "--port", "0", "--ops-port", "0"]
    with launch("inference", *line, folder=tmp_path, name="inference") as running:
        asyncio.run(scenario(str(running.ready()["url"]).removeprefix("grpcs://")))


def test_a_signal_ends_sessions_and_then_the_process(tmp_path):
    (tmp_path / "mine.toml").write_text(MINE.replace("[compositor]\n", "[compositor]\ndrain_ms = 200\n"))
    line = ["--config", "mine.toml", "--port", "0", "--ops-port", "0", "--inference", "127.0.0.1:1"]
    with launch("compositor", *line, folder=tmp_path, name="compositor") as running:
        with grpc.insecure_channel(str(running.ready()["url"]).removeprefix("grpc://")) as channel:
            opening = pb.SessionRequest(open=pb.Open(avatar="anna", codecs=[pb.H264]))
            held = threading.Event()

            def requests() -> Iterator[pb.SessionRequest]:
                yield opening
                held.wait(30)

            replies = CompositorStub(channel).Session(requests(), timeout=60)
            assert next(replies).opened.session
            assert next(replies).unit.seq == 1
            assert running.stop() == 0
            with pytest.raises(grpc.RpcError):
                list(replies)
            held.set()
        assert "Traceback" not in running.output()
