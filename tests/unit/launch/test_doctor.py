"""`headrace doctor` at its door, and its checks of others, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from launch.cli import main
from launch.doctor import engines, neighbours, stun
from launch.doctor.listening import listening
from launch.doctor.roles import Address, Roles, addresses, extras, named
from launch.doctor.stun import ServerError
from streamkit.ops.http_client import HttpClient
from streamkit.ops.settings import SettingsError
from streamkit.wire.backend import Backend

PAGES = {"/v1/models": {"data": [{"id": "tiny"}]}, "/version": {"version": "0.32.0"}}


@asynccontextmanager
async def serving(pages: dict[str, object], *, date: str = "", key: str = "") -> AsyncIterator[int]:
    """Serve JSON by path, with a `Date` where one is given, and a 401 to whoever has not got the key."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                page = pages.get(head.split()[1].decode())
                status, body = (200, json.dumps(page).encode()) if page is not None else (404, b"")
                if key and f"authorization: bearer {key}".encode() not in head.lower():
                    status, body = 401, b""
                dated = f"date: {date}\r\n" if date else ""
                writer.write(f"HTTP/1.1 {status} X\r\n{dated}content-length: {len(body)}\r\n\r\n".encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def backend(port: int, **more: object) -> Backend:
    return Backend(name="gpu0", engine="vllm", url=f"http://127.0.0.1:{port}", **more)  # type: ignore[arg-type]


async def judged(it: Backend, **more: object) -> dict[str, tuple[str, str]]:
    async with HttpClient() as http:
        found = await engines.engine(http, it, **more)  # type: ignore[arg-type]
    return {finding.check: (finding.verdict, finding.seen) for finding in found}


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.anyio
async def test_an_engine_that_answers_is_told_with_its_models_and_version():
    async with serving(PAGES) as port:
        found = await judged(backend(port))
    assert found["engine.gpu0"][0] == "ok"
    assert "serves tiny" in found["engine.gpu0"][1]
    assert found["version.gpu0"] == ("ok", "vllm 0.32.0")


@pytest.mark.anyio
async def test_what_is_wrong_with_an_engine_is_told():
    assert (await judged(backend(closed_port())))["engine.gpu0"][0] == "fail"
    async with serving(PAGES) as port:
        assert (await judged(backend(port, models=("other",))))["engine.gpu0"][0] == "warn"
    async with serving({**PAGES, "/version": {"version": "0.11.2"}}) as port:
        assert (await judged(backend(port)))["version.gpu0"][0] == "warn"
    async with serving({}) as port:
        assert (await judged(backend(port)))["engine.gpu0"][0] == "fail"
    grpc = Backend(name="gpu0", engine="tfserving", url=f"grpc://127.0.0.1:{closed_port()}", models=("m",))
    assert (await judged(grpc))["engine.gpu0"][0] == "fail"


@pytest.mark.anyio
async def test_an_engines_key_is_shown_to_it_and_to_nobody_else():
    async with serving(PAGES, key="s3cret") as port:
        given = backend(port, api_key_env="ENGINE_KEY")
        assert (await judged(given, environment={"ENGINE_KEY": "s3cret"}))["engine.gpu0"][0] == "ok"
        wrong = await judged(given, environment={"ENGINE_KEY": "wr0ng"})
        unset = await judged(given, environment={})
    assert wrong["engine.gpu0"][0] == unset["engine.gpu0"][0] == "fail"
    assert "wr0ng" not in str(wrong)
    assert "no ENGINE_KEY" in unset["engine.gpu0"][1]


@pytest.mark.anyio
@pytest.mark.parametrize(("off_s", "verdict"), [(0, None), (-10, "warn"), (100, "fail")])
async def test_a_clock_that_is_off_is_told(off_s, verdict):
    date = datetime.fromtimestamp(datetime.now(UTC).timestamp() + off_s, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    async with serving(PAGES, date=date) as port:
        found = await judged(backend(port))
    assert found.get("clock.gpu0", (None,))[0] == verdict


def test_a_date_that_is_none_says_nothing():
    assert engines.skew_s({"date": "yesterday"}) is None
    assert engines.skew_s({}) is None


@pytest.mark.anyio
async def test_a_free_port_a_taken_one_and_one_that_we_hold_ourselves():
    async with serving({"/healthz": {"alive": True}}) as ops, serving({}) as taken, HttpClient() as http:
        wanted = [
            Address("edge.port", "127.0.0.1", taken),
            Address("control.port", "127.0.0.1", taken),
            Address("control.ops_port", "127.0.0.1", ops),
            Address("arbiter.port", "127.0.0.1", closed_port()),
        ]
        found = {finding.check: finding async for finding in listening(http, wanted)}
    assert found["port.edge.port"].verdict == "fail"
    assert str(taken) in found["port.edge.port"].do
    assert found["port.control.port"].verdict == found["port.control.ops_port"].verdict == "ok"
    assert found["port.arbiter.port"].verdict == "ok"


@pytest.mark.anyio
async def test_an_address_of_another_machine_is_told_as_that():
    async with HttpClient() as http:
        (found,) = [each async for each in listening(http, [Address("control.port", "192.0.2.1", 7_401)])]
    assert found.verdict == "fail"
    assert "an address of this machine" in found.do


def test_every_address_of_a_service_is_known(tmp_path):
    path = tmp_path / "edge.toml"
    path.write_text('[edge]\nworkers = 2\nhost = "0.0.0.0"\npeer_host = "10.0.0.41"\n')
    found = [(each.key, each.host, each.port) for each in addresses(named(str(path), ["edge"]))]
    assert found == [
        ("edge.port", "0.0.0.0", 7_400),
        ("edge.ops_port", "127.0.0.1", 7_410),
        ("edge.ops_port", "127.0.0.1", 7_411),
        ("edge.peer_port", "10.0.0.41", 7_402),
        ("edge.peer_port", "10.0.0.41", 7_403),
    ]
    with pytest.raises(SettingsError, match='no service "egde", did you mean "edge"'):
        named(str(path), ["egde"])


@pytest.mark.anyio
async def test_an_edge_alone_asks_for_control_and_shows_its_secret(tmp_path, monkeypatch):
    path = tmp_path / "edge.toml"
    monkeypatch.setenv("EDGE_SECRET", "s3cret")

    async def asked(port: int, text: str = "") -> tuple[str, str]:
        path.write_text(f'[edge]\ncontrol_url = "http://127.0.0.1:{port}"\n{text}')
        (found,) = [finding async for finding in neighbours.control(named(str(path), ["edge"]))]
        return found.verdict, found.seen

    async with serving({"/v1/backends": []}, key="s3cret") as port:
        assert (await asked(port, 'control_secret_env = "EDGE_SECRET"'))[0] == "ok"
        assert "refuses this edge" in (await asked(port))[1]
        assert "no NOT_SET" in (await asked(port, 'control_secret_env = "NOT_SET"'))[1]
    assert (await asked(closed_port()))[0] == "fail"
    assert [finding async for finding in neighbours.control(Roles({"edge": 1, "control": 1}, ()))] == []


@pytest.mark.anyio
async def test_ways_to_services_elsewhere_are_tried(tmp_path):
    path = tmp_path / "node.toml"
    async with serving({}) as port:
        path.write_text(
            f'[edge]\n[edge.avatars]\ncompositor_url = "grpc://127.0.0.1:{port}"\n'
            f'[compositor]\ninference = "127.0.0.1:{closed_port()}"\n'
            f'[observe]\nfeeds = ["edge=http://127.0.0.1:{port}", "control=http://127.0.0.1:{closed_port()}"]\n'
        )
        alone = {each.check: each.verdict async for each in neighbours.links(named(str(path), ["edge", "observe"]))}
        beside = [each.check async for each in neighbours.links(named(str(path), ["edge", "compositor", "control"]))]
    assert alone == {"edge.compositor": "ok", "feed.control": "fail"}
    assert beside == ["compositor.inference"]


def test_engines_are_asked_where_somebody_speaks_to_them(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('[[backends]]\nname = "gpu0"\nengine = "vllm"\nurl = "http://10.0.0.30:8000"\n')
    asked = {
        name: len(named(str(path), [name]).backends)
        for name in ("edge", "control", "arbiter", "compositor", "observe")
    }
    assert asked == {"edge": 1, "control": 1, "arbiter": 1, "compositor": 0, "observe": 0}


def test_the_brokers_certificates_are_not_looked_for_in_another_container(capsys, tmp_path, monkeypatch):
    path = tmp_path / "node.toml"
    names = "".join(f'leaf_{name}_file = "{tmp_path}/none.pem"\n' for name in ("cert", "key", "ca"))
    path.write_text(f'[observe]\nport = 0\nops_port = 0\nnats_url = "nats://127.0.0.1:{closed_port()}"\n{names}')
    checks = {}
    for inside in (False, True):
        monkeypatch.setattr("launch.doctor.checkup.contained", lambda inside=inside: inside)
        _, out, _ = told(capsys, "--config", str(path), "--service", "observe", "--json")
        checks[inside] = [each["check"] for each in json.loads(out)["findings"] if each["check"].startswith("tls.")]
    assert checks[False] == ["tls.observe.leaf_cert_file", "tls.observe.leaf_ca_file"]
    assert checks[True] == []


def test_extras_are_those_that_the_settings_need(tmp_path):
    path = tmp_path / "node.toml"

    def needed(text: str, *services: str) -> set[str]:
        path.write_text(text)
        return set(extras(named(str(path), services)))

    assert needed("", "edge", "control") == set()
    assert needed('[edge]\ntraces_url = "http://127.0.0.1:4318/v1/traces"\n', "edge") == {"traces"}
    assert needed('[edge.avatars]\ncompositor_url = "grpc://127.0.0.1:9"\n', "edge") == {"webrtc"}
    predicts = '[[backends]]\nname = "tf"\nengine = "tfserving"\nurl = "grpc://127.0.0.1:8500"\nmodels = ["m"]\n'
    assert needed(predicts, "control") == {"tfserving"}
    assert needed('[inference]\ndevice = "cuda"\n', "inference") == {"inference", "gpu", "models"}
    assert needed('[inference]\nmodels_root = "/srv"\n', "inference") == {"inference"}


# STUN and TURN


def test_a_relays_address_is_read():
    assert stun.parsed("turn:relay.example").port == 3478
    found = stun.parsed("turn:[::1]:3479?transport=tcp")
    assert (found.host, found.port, found.stream, found.relays) == ("::1", 3479, True, True)
    for wrong in ("http://x", "turn:", "turn:x:99999", "turns:x:5349", "stun:x?transport=sctp"):
        with pytest.raises(ServerError):
            stun.parsed(wrong)


def test_an_error_code_is_read_from_among_other_attributes():
    transaction = b"t" * 12
    realm = b"\x00\x14\x00\x03abc\x00"
    code = b"\x00\x09\x00\x10\x00\x00\x04\x01Unauthorized"
    head = b"\x01\x13" + len(realm + code).to_bytes(2) + b"\x21\x12\xa4\x42" + transaction
    assert stun.read(head + realm + code, transaction).code == 401
    with pytest.raises(ServerError, match="no STUN"):
        stun.read(head + realm, b"o" * 12)
    with pytest.raises(ServerError, match="no STUN"):
        stun.read(b"HTTP/1.1 400", transaction)


class _Binding(asyncio.DatagramProtocol):
    """Answers a binding request as RFC 8489 has it, but loses the first packet."""

    def __init__(self) -> None:
        self.seen = 0

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.seen += 1
        if self.seen > 1:
            self.transport.sendto(b"\x01\x01\x00\x00" + data[4:20], addr)


@pytest.mark.anyio
async def test_a_lost_packet_is_sent_again_and_silence_ends_in_time():
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_Binding, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    answer = await stun.ask(stun.parsed(f"stun:127.0.0.1:{port}"), timeout_s=5)
    assert (answer.code, protocol.seen) == (0, 2)
    protocol.seen = -1_000
    with pytest.raises(TimeoutError):
        await stun.ask(stun.parsed(f"stun:127.0.0.1:{port}"), timeout_s=0.05)
    transport.close()


# The command


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(["doctor", *argv])
    out, err = capsys.readouterr()
    return status, out, err


CONFIG = """
[edge]
port = {edge}
ops_port = 0
[control]
port = 0
ops_port = 0
store_path = "{store}"
[[backends]]
name = "away"
engine = "vllm"
url = "http://127.0.0.1:{away}"
"""


def test_it_says_what_is_wrong_and_what_to_do(capsys, tmp_path):
    path = tmp_path / "given.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path.write_text(CONFIG.format(edge=port, away=closed_port(), store=tmp_path / "control.db"))
        status, out, _ = told(capsys, "--config", str(path))
        json_status, document, _ = told(capsys, "--config", str(path), "--json")
    assert status == json_status == 1
    assert "FAIL  port.edge.port" in out
    assert "FAIL  engine.away" in out
    assert "do  " in out
    long = [line for line in out.splitlines() if len(line) > 80 and " " in line.strip()]
    assert not [line for line in long if str(tmp_path) not in line]
    found = json.loads(document)
    assert (found["version"], found["status"]) == (1, 1)
    assert found["services"] == ["edge", "control"]
    verdicts = {each["check"]: each["verdict"] for each in found["findings"]}
    assert verdicts["engine.away"] == verdicts["port.edge.port"] == "fail"
    assert verdicts["versions"] == "ok"
    assert all(each["do"] for each in found["findings"] if each["verdict"] in ("warn", "fail"))


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--config", "none.toml"], "none.toml: no such file"),
        (["--service", "edg"], '--service: no service "edg"'),
        (["--turn", "relay"], "expected stun:HOST:PORT or turn:HOST:PORT"),
        (["--nope"], "unknown option --nope"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_two(capsys, argv, line):
    status, out, err = told(capsys, *argv)
    assert (status, out) == (2, "")
    assert line in err
    assert err.count("\n") == 1
