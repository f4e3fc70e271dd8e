"""What `headrace events`, `trace` and `usage` say of arguments that cannot be meant."""

from __future__ import annotations

import pytest

from launch.cli import main


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("events", "--nats", "http://127.0.0.1:7440"), "--nats: expected nats://HOST:PORT"),
        (("trace", "one", "--nats", "127.0.0.1:7440"), "--nats: expected nats://HOST:PORT"),
        (("trace",), "missing: REQUEST-ID"),
        (("events", "--after", "-1"), "--after: expected a sequence"),
        (("events", "--kind", "stream.*"), "--kind: expected a kind such as stream.end"),
        (("events", "--kind", "stream."), "--kind: expected a kind such as stream.end"),
        (("events", "--site", "Berlin"), "--site: expected up to 32 of a-z"),
        (("events", "--since", "999999d"), "--since: expected at most 400d"),
        (("trace", "one", "--since", "0s"), "--since: expected a length of time"),
        (("usage", "--since", "401d"), "--since: expected at most 400d"),
        (("usage", "--by", "tenant,tenant"), "--by: expected some of"),
        (("events", "--nats", "nats://127.0.0.1:9", "--no-follow"), "no NATS server answers at nats://127.0.0.1:9"),
        (("usage", "--url", "http://127.0.0.1:9"), "does headrace observe run there?"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    line: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("launch.event_log._PATIENCE_S", 0.2)
    assert main(line) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert (said.err.count("\n"), said.out) == (1, "")
    assert said.err.startswith(f"headrace {line[0]}: ")
