from __future__ import annotations

from pathlib import Path

import pytest

from launch import config
from launch.layout import Layout
from launch.ports import ports
from streamkit.ops.settings import SettingsError
from streamkit.wire.backend import Backend

ONE = '[[backends]]\nname = "a"\nengine = "vllm"\nurl = "http://127.0.0.1:8000"\n'
TF = '[[backends]]\nname = "t"\nengine = "tfserving"\nurl = "grpc://127.0.0.1:8500"\nmodels = ["m"]\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        Path("headrace.toml").write_text(text)
        return "headrace.toml"

    return write


def test_what_a_file_leaves_out_is_the_default(file):
    found = config.load(file(ONE))
    assert [backend.name for backend in found.backends] == ["a"]
    assert found.simulator is None
    assert (found.edge.port, found.control.port) == (7400, 7401)


def test_a_simulator_table_starts_one_on_its_usual_port(file):
    found = config.load(file("[simulator]\nitl_ms = 1.0\n"))
    assert found.simulator is not None
    assert (found.simulator.port, found.simulator.itl_ms) == (7430, 1.0)
    assert config.load(file("[simulator]\nport = 0\n")).simulator.port == 0


def test_one_service_reads_its_own_table_only(file):
    path = file("[edge]\nport = 1\n[control]\nport = 'x'\n")
    assert config.section(path, "edge").port == 1
    assert config.section(None, "edge").port == 7400
    with pytest.raises(SettingsError, match=r"^headrace\.toml: control\.port: expected int, got \"x\"$"):
        config.section(path, "control")


def test_ports_move_together(file):
    found = config.load(file(ONE + "[simulator]\n")).on(9000)
    assert [named.port for named in ports(found)] == [9000, 9010, 9001, 9029, 9030]
    assert [named.port for named in ports(found.on(0))] == [0] * 5
    assert found.with_edge_port(5).edge.port == 5


def test_an_arbiter_table_starts_one_beside_the_others_or_on_its_own_port_alone(file):
    assert config.load(file(ONE)).arbiter is None
    path = file(ONE + "[arbiter]\nmargin_mb = 1\n")
    found = config.load(path)
    assert (found.arbiter.port, found.arbiter.ops_port, found.arbiter.margin_mb) == (7451, 7428, 1)
    assert config.section(path, "arbiter").port == 50_051
    moved = found.on(9000).arbiter
    assert (moved.port, moved.ops_port) == (9051, 9028)
    assert config.load(file(ONE + "[arbiter]\nport = 50_051\n")).arbiter.port == 50_051


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "nothing to stream from: add a [[backends]] table, or [simulator]"),
        ("[egde]\n", 'egde: unknown table, did you mean "edge"?'),
        (ONE + "[edge]\nport = 70_000\n", "edge.port: expected int <= 65535, got 70000"),
        (ONE + "[edge]\nidel_ms = 1\n", 'edge.idel_ms: unknown key, did you mean "idle_ms"?'),
        (ONE + ONE, 'backends[1].name: "a" is backends[0] already'),
        (ONE + ONE.replace('"a"', '"b"'), 'backends[1].url: "http://127.0.0.1:8000" is the address of "a" already'),
        (
            ONE.replace("vllm", "vlm"),
            'backends[0].engine: expected one of "inference", "ollama", "openai", "tfserving", "vllm", got "vlm"',
        ),
        (ONE.replace(":8000", ":0"), 'backends[0].url: expected a port from 1 to 65535, got "http://127.0.0.1:0"'),
        (ONE.replace(":8000", ":99999"), "backends[0].url: expected a port from 1 to 65535"),
        (ONE.replace("127.0.0.1:8000", ":8000"), "backends[0].url: expected a host name or address"),
        (ONE.replace("127.0.0.1", "0.0.0.0"), "backends[0].url: expected an address to connect to"),
        (ONE.replace(":8000", ":8000/v1"), "backends[0].url: expected the base address, without /v1"),
        (ONE.replace("127", "me:pw@127"), "backends[0].url: expected no credentials here"),
        (ONE.replace("url", "#url"), "backends[0].url: required, but missing"),
        (TF.replace("grpc:", "http:"), "backends[0].url: expected its gRPC port, grpc://host:8500"),
        (TF.replace('models = ["m"]', ""), "backends[0].models: expected the names to serve"),
        (ONE.replace("http:", "grpc:"), "backends[0].url: expected http:// or https://"),
        (ONE + 'api = "other"\n', 'backends[0].api: expected one of "native", "openai", got "other"'),
        (ONE + "[backends.ollama]\nnum_ctx = -1\n", "backends[0].ollama.num_ctx: expected int >= 0, got -1"),
        (ONE + '[simulator]\nname = "a"\n', 'simulator.name: "a" is a backend\'s name already'),
        ('[simulator]\napi_key = "x"\n', "simulator.api_key: expected none beside an edge"),
        (ONE + "[edge]\nport = 7401\n", "control.port: 7401 is edge.port already"),
        (
            ONE + "[edge]\nroute_timeout_ms = 10_000\n",
            "edge.route_timeout_ms: expected less than edge.commit_after_ms (10000), got 10000",
        ),
        (
            ONE + "[edge]\nqueue_ms = 10_000\n",
            "edge.queue_ms: expected less than edge.commit_after_ms (10000), got 10000",
        ),
        (
            ONE + '[[aliases]]\nname = "x"\nmodels = ["a"]\n[[aliases]]\nname = "x"\nmodels = ["b"]\n',
            'aliases[1].name: "x" is [0] already',
        ),
        (ONE + '[[aliases]]\nname = "x"\nmodels = ["a", "a"]\n', "aliases[0].models: expected each model once"),
        (ONE + '[[aliases]]\nname = "x"\nmodels = []\n', "aliases[0].models: expected"),
        (ONE + '[[models]]\nname = "x"\ncontinuaton = true\n', "models[0].continuaton: unknown key"),
    ],
)
def test_what_could_not_run_is_refused_in_one_line(file, text, line):
    with pytest.raises(SettingsError) as caught:
        config.load(file(text))
    said = str(caught.value)
    assert said.startswith(f"headrace.toml: {line}")
    assert "\n" not in said


def test_what_is_written_can_be_read_again(file):
    found = config.load(
        file(
            ONE
            + '[edge]\nnode = "a\'b"\n[control]\nregion_weights = { eu = 0.5 }\n[simulator]\n'
            + "[arbiter]\nstatic_gpus_mb = [1, 2]\n"
        )
    )
    for given in (found, found.on(0), found.on(9000)):
        assert config.load(file(given.document("Written by a test.\nTwo lines."))) == given


def test_a_file_that_up_has_written_names_its_simulator_once(file, tmp_path):
    plan = config.load(file("[simulator]\n"))
    layout = Layout(plan, tmp_path)
    layout.write()
    written = config.load(layout.file)
    assert written.simulator == plan.simulator
    assert written.backends == ()
    assert [backend.name for backend in layout.backends()] == [plan.simulator.name]


def test_a_machine_without_engines_gets_the_simulator():
    assert config.of_machine(()).simulator is not None
    own = Backend(name="a", engine="vllm", url="http://127.0.0.1:8000")
    assert config.of_machine((own,)).simulator is None


def test_a_missing_key_is_noted(file, monkeypatch):
    found = config.load(file(ONE + 'api_key_env = "HEADRACE_TEST_KEY"\n'))
    assert "HEADRACE_TEST_KEY" in config.notes(found)[0]
    monkeypatch.setenv("HEADRACE_TEST_KEY", "x")
    assert config.notes(found) == []
