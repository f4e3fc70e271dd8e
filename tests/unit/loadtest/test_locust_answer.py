"""What counts as a whole answer, in Python and in k6's JavaScript: the same rules, held by the same cases."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from loadtest.locust.answer import Answer, misplaced
from loadtest.locust.signalling import offer
from tests.support import needs

FRAMES = Path(__file__).parents[3] / "loadtest/k6/frames.js"


def chunk(text: str = "", finish: str | None = None) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


ROLE = '{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}'
USAGE = '{"choices":[],"usage":{"completion_tokens":2}}'
ERROR = '{"error":{"message":"gone","type":"server_error","param":null,"code":"stream_broken"}}'
WHOLE = [ROLE, chunk("a"), chunk("b"), chunk(finish="stop"), USAGE, "[DONE]"]
#: Events, and what is wrong with them.
CASES: list[tuple[list[str], str | None]] = [
    (WHOLE, None),
    ([], "no [DONE]"),
    (WHOLE[:-1], "no [DONE]"),
    ([ROLE, chunk("a"), "[DONE]"], "no finish_reason"),
    ([ROLE, chunk(finish="stop"), "[DONE]"], "no token"),
    ([ROLE, chunk("a"), ERROR, "[DONE]"], "stream_broken"),
    ([ERROR, "[DONE]"], "stream_broken"),
    ([*WHOLE, chunk("late")], "an event behind [DONE]"),
    ([*WHOLE, "[DONE]"], "an event behind [DONE]"),
    ([ROLE, "[1]"], "an event that is no object"),
    ([ROLE, "null"], "an event that is no object"),
    ([ROLE, '{"choices":[{'], "an event that is no JSON"),
]


def fed(events: list[str]) -> Answer:
    answer = Answer(0.0)
    for number, event in enumerate(events):
        answer.feed(event.encode(), (number + 1) / 10)
    return answer


@pytest.mark.parametrize(("events", "fault"), CASES)
def test_a_fault_is_named(events, fault):
    found = fed(events).fault
    assert found == fault if fault is None else found is not None and found.startswith(fault)


def test_times_are_those_of_tokens():
    answer = fed([ROLE, chunk("a"), chunk("b"), chunk("c"), chunk(finish="stop"), "[DONE]"])
    assert answer.ttft_ms == pytest.approx(200)
    assert answer.gaps_ms == pytest.approx([100, 100])
    assert answer.jitter_ms == pytest.approx(0)
    assert fed([chunk("a"), chunk("b")]).jitter_ms is None


def test_k6_judges_the_same():
    """By node, which knows the language but none of k6: frames.js has no I/O."""
    program = needs.program("node")
    script = f"""{FRAMES.read_text()}
      const found = {json.dumps([events for events, _ in CASES])}.map((events) => {{
        const answer = new Answer(0);
        events.forEach((event, index) => answer.feed(event, (index + 1) * 100));
        return [answer.fault, answer.ttft, answer.gaps, answer.tokens];
      }});
      console.log(JSON.stringify(found));
    """
    done = subprocess.run([program, "--input-type=module", "-e", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for (events, _), (fault, ttft, gaps, tokens) in zip(CASES, json.loads(done.stdout), strict=True):
        ours = fed(events)
        assert (fault or "").partition(":")[0] == (ours.fault or "").partition(":")[0]
        assert ttft == (None if ours.ttft_ms is None else pytest.approx(ours.ttft_ms))
        assert gaps == pytest.approx(ours.gaps_ms)
        assert tokens == len(ours.tokens_s)


@pytest.mark.parametrize(
    ("name", "last", "wrong"),
    [
        ("10", 9, None),
        ("9", 9, "an event came twice"),
        ("11", 9, "an event is missing"),
        ("100", 9, "an event is missing"),
        ("", 0, "an event without a number"),
    ],
)
def test_ids_are_numbers_and_not_words(name, last, wrong):
    assert misplaced(name, last) == wrong


def test_an_offer_asks_to_receive_both_and_is_never_the_same_twice():
    first, second = offer().decode(), offer().decode()
    assert first != second
    assert first.count("a=recvonly\r\n") == 2
    assert "\n" not in first.replace("\r\n", "")
