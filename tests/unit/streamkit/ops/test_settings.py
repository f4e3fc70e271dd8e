from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from streamkit.ops.settings import SettingsError, convert, nearest, read


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    body_bytes: Annotated[int, msgspec.Meta(ge=1)] = 1024
    pace: Literal["staggered", "step"] = "staggered"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 7400
    idle_ms: int = 5_000
    api_key: int = 0
    weights: dict[str, float] = {}
    limits: Limits = Limits()
    others: tuple[Limits, ...] = ()
    hedge_ms: int | None = None
    extra: Limits | None = None


def refusal(data: object, *, key: str = "edge") -> str:
    with pytest.raises(SettingsError) as caught:
        convert(data, Settings, "headrace.toml", key=key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_right_is_returned():
    found = convert({"name": "a", "limits": {"pace": "step"}, "others": [{}]}, Settings, "f")
    assert found == Settings(name="a", limits=Limits(pace="step"), others=(Limits(),))


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"port": 70000}, "edge.port: expected int <= 65535, got 70000"),
        ({"port": "x"}, 'edge.port: expected int, got "x"'),
        ({"idle_ms": True}, "edge.idle_ms: expected int, got true"),
        ({"limits": {"body_bytes": 0}}, "edge.limits.body_bytes: expected int >= 1, got 0"),
        ({"limits": 5}, "edge.limits: expected a table, got 5"),
        ({"port": {"a": 1}}, "edge.port: expected int, got a table"),
        ({"port": [1]}, "edge.port: expected int, got an array"),
        ({"others": [{}, {"body_bytes": "x"}]}, 'edge.others[1].body_bytes: expected int, got "x"'),
        ({"prot": 1}, 'edge.prot: unknown key, did you mean "port"?'),
        ({"zzz": 1}, "edge.zzz: unknown key"),
        ({"limits": {"pase": "step"}}, 'edge.limits.pase: unknown key, did you mean "pace"?'),
        ({"others": [{"pase": "step"}]}, 'edge.others[0].pase: unknown key, did you mean "pace"?'),
        ({"extra": {"pase": "step"}}, 'edge.extra.pase: unknown key, did you mean "pace"?'),
        (
            {"limits": {"pace": "stepp"}},
            'edge.limits.pace: expected one of "staggered", "step", got "stepp", did you mean "step"?',
        ),
        ({"weights": {"eu": "x"}}, "edge.weights.…: expected float, got something else"),
    ],
)
def test_a_mistake_is_one_line_with_place_limit_and_finding(data, line):
    assert refusal({"name": "a", **data}) == f"headrace.toml: {line}"


def test_what_is_missing_is_named():
    assert refusal({}) == "headrace.toml: edge.name: required, but missing"
    assert refusal({}, key="") == "headrace.toml: name: required, but missing"


def test_a_secret_in_the_wrong_place_is_not_repeated():
    assert "hr-123" not in refusal({"name": "a", "api_key": "hr-123"})


def test_a_long_value_is_cut():
    assert len(refusal({"name": "a", "port": "x" * 500})) < 160


def test_an_own_check_of_the_struct_is_passed_on():
    class Picky(msgspec.Struct):
        low: int = 1
        high: int = 2

        def __post_init__(self):
            if self.low > self.high:
                raise ValueError("low must not be above high")

    with pytest.raises(SettingsError, match=r"^f: edge: low must not be above high$"):
        convert({"low": 5}, Picky, "f", key="edge")


def test_a_file_is_read(tmp_path: Path):
    path = tmp_path / "headrace.toml"
    path.write_text("[edge]\nport = 1\n")
    assert read(path) == {"edge": {"port": 1}}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[edge\n", "not valid TOML: .*line 1"), (b"\xff", "not UTF-8"), (None, "no such file")],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content, words):
    path = tmp_path / "headrace.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=words):
        read(path)
    with pytest.raises(SettingsError, match="is a directory"):
        read(tmp_path)


def test_nearest_stays_silent_when_nothing_is_near():
    assert nearest("prot", ["port", "host"]) == ', did you mean "port"?'
    assert nearest("qqqq", ["port", "host"]) == ""
