"""`headrace.toml` is documentation, a configuration that runs, and this suite's fixture."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from launch import config
from streamkit.wire.backend import Backend, Cancels, Capabilities

SAMPLE = Path(__file__).parents[3] / "headrace.toml"
_COMMENTED = re.compile(r"^#(?=\[|[a-z_]+ = )", re.MULTILINE)
#: Shown with an example, because TOML has no word for their default, which is: none.
EXAMPLES = {"hedge_after_ms", "api_key", "fault"}


def uncommented() -> str:
    return _COMMENTED.sub("", SAMPLE.read_text())


def test_it_runs_as_it_is():
    found = config.load(SAMPLE)
    assert found.simulator is not None
    assert found.backends == ()


def test_it_is_valid_with_every_line_in_force(tmp_path: Path):
    path = tmp_path / "headrace.toml"
    path.write_text(re.sub(r"^api_key = .*$", "", uncommented(), flags=re.MULTILINE))
    assert [backend.name for backend in config.load(path).backends] == ["vllm", "ollama", "llama-server"]


@pytest.mark.parametrize("name", ["edge", "control", "simulator"])
def test_every_setting_is_there_with_its_default(name):
    shown = tomllib.loads(uncommented())[name]
    default = config.section(None, name)
    fields = {field.name for field in msgspec.structs.fields(default)}
    assert set(shown) == fields
    true = msgspec.to_builtins(default)
    for key in sorted(fields - EXAMPLES):
        wanted = list(true[key]) if isinstance(true[key], tuple) else true[key]
        assert shown[key] == wanted, f"{name}.{key}"
    assert all(true.get(key) is None for key in EXAMPLES & fields)


def test_every_setting_of_a_backend_is_there():
    first = tomllib.loads(uncommented())["backends"][0]
    assert set(first) == {field.name for field in msgspec.structs.fields(Backend)}
    capabilities = first["capabilities"]
    assert set(capabilities) == {field.name for field in msgspec.structs.fields(Capabilities)}
    assert set(capabilities["cancels_on_close"]) == {field.name for field in msgspec.structs.fields(Cancels)}
    assert msgspec.convert(capabilities, Capabilities) == Capabilities()


def test_every_setting_is_explained():
    lines = SAMPLE.read_text().splitlines()
    bare = [
        line
        for before, line in itertools.pairwise(lines)
        if re.match(r"#[a-z_]+ = ", line) and not before.startswith("# ")
    ]
    # The further backends and the two flags of a pair need no words of their own.
    examples = {'#name = "ollama"', '#engine = "ollama"', '#url = "http://127.0.0.1:11434"',
                '#name = "llama-server"', '#engine = "openai"', '#url = "http://127.0.0.1:8080"',
                "#stream = true", "#nonstream = true"}  # fmt: skip
    assert set(bare) <= examples
