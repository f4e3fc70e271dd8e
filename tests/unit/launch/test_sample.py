"""`headrace.toml` is documentation, a configuration that runs, and this suite's fixture."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from compositor.settings import AvatarSettings
from core_gpu.modes.settings import Budget
from launch import config
from streamkit.wire.backend import Backend, Cancels, Capabilities
from streamkit.wire.models import Alias, Equivalents, Model

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


@pytest.mark.parametrize(
    "name",
    [
        *(
            "edge",
            "control",
            "arbiter",
            "inference",
            "compositor",
            "speech",
            "gpu",
            "nats",
            "observe",
            "prober",
            "healing",
        ),
        "simulator",
    ],
)
def test_every_setting_is_there_with_its_default(name):
    shown = tomllib.loads(uncommented())[name]
    default = config.section(None, name)
    fields = {field.name for field in msgspec.structs.fields(default)}
    assert set(shown) == fields
    true = msgspec.to_builtins(default)
    for key in sorted(fields - EXAMPLES):
        assert shown[key] == _as_toml(true[key]), f"{name}.{key}"
    assert all(true.get(key) is None for key in EXAMPLES & fields)


def _as_toml(value: object) -> object:
    if isinstance(value, dict):
        return {key: _as_toml(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def test_every_setting_of_a_backend_is_there():
    first = tomllib.loads(uncommented())["backends"][0]
    assert set(first) == {field.name for field in msgspec.structs.fields(Backend)}
    capabilities = first["capabilities"]
    assert set(capabilities) == {field.name for field in msgspec.structs.fields(Capabilities)}
    assert set(capabilities["cancels_on_close"]) == {field.name for field in msgspec.structs.fields(Cancels)}
    assert msgspec.convert(capabilities, Capabilities) == Capabilities()


def test_every_setting_of_a_budget_is_there():
    first = tomllib.loads(uncommented())["budgets"][0]
    fields = {field.name: field.default for field in msgspec.structs.fields(Budget)}
    assert set(first) == set(fields)
    examples = {"name", "engine", "budget_mb", "model"}
    assert {key: first[key] for key in first if key not in examples} == {
        key: list(fields[key]) if isinstance(fields[key], tuple) else fields[key]
        for key in fields
        if key not in examples
    }


def test_every_setting_of_an_avatar_is_there_with_its_default():
    (only,) = tomllib.loads(uncommented())["avatars"]
    assert msgspec.convert(only, AvatarSettings) == AvatarSettings()
    assert set(only) == {field.name for field in msgspec.structs.fields(AvatarSettings)}
    assert config.avatars(SAMPLE) == (AvatarSettings(preload=True),)


@pytest.mark.parametrize(("name", "kind"), [("aliases", Alias), ("equivalents", Equivalents), ("models", Model)])
def test_every_setting_of_an_alias_and_of_a_model_is_there(name, kind):
    (only,) = tomllib.loads(uncommented())[name]
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    assert set(only) == set(fields)
    for key, field in fields.items():
        assert field.required or only[key] == field.default


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
