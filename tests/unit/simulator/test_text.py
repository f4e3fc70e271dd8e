from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.text import Walk, model_key, topic_of


def answer(so_far: str = "", *, question: str = "Tell me about rivers", seed: int = 0) -> list[str]:
    walk = Walk(model_key(seed, question), so_far, topic=topic_of(question))
    return [token.text for token in iter(walk.next, None) if token is not None]


def test_the_same_question_has_the_same_answer_and_others_have_others() -> None:
    one = answer()
    assert one == answer()
    assert one != answer(seed=1)
    assert one != answer(question="Tell me about bridges")


def test_an_answer_has_a_few_hundred_tokens_each_with_text() -> None:
    lengths = []
    for seed in range(60):
        tokens = answer(seed=seed)
        assert all(tokens)
        lengths.append(len(tokens))
    assert min(lengths) > 150
    assert max(lengths) < 800


def test_answers_hold_lists_code_and_other_scripts() -> None:
    text = "".join("".join(answer(seed=seed)) for seed in range(40))
    assert "\n- " in text
    assert "```python\n" in text
    assert "流れる" in text
    assert "\N{WATER WAVE}" in text
    assert "\N{ZERO WIDTH JOINER}" in text


def test_a_continuation_is_what_an_uninterrupted_run_would_have_said() -> None:
    whole = answer()
    for cut in range(len(whole) + 1):
        assert answer("".join(whole[:cut])) == whole[cut:]


def test_a_text_cut_inside_a_token_goes_on_to_the_same_end() -> None:
    whole = "".join(answer())
    for cut in range(0, len(whole), 7):
        assert whole[:cut] + "".join(answer(whole[:cut])) == whole


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet="ab \n.流🌊Te", max_size=60), st.integers(0, 400), st.integers(0, 3))
def test_somebody_elses_prefix_is_continued_alike_however_often_it_is_cut(prefix: str, cut: int, seed: int) -> None:
    whole = answer(prefix, seed=seed)
    assert answer(prefix + "".join(whole[:cut]), seed=seed) == whole[cut:]


def test_the_count_includes_the_prefix() -> None:
    key = model_key(0, "x")
    first = Walk(key)
    tokens = [first.next() for _ in range(30)]
    text = "".join(token.text for token in tokens if token is not None)
    assert Walk(key, text).count == first.count == 30


def test_an_endless_walk_does_not_end() -> None:
    walk = Walk(model_key(0, "x"), endless=True)
    assert all(token is not None for token in itertools.islice(iter(walk.next, None), 5000))
    assert walk.count == 5000


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("Tell me about rivers in Norway", "Norway"),
        ("hi", "this"),
        ("What would you do with a thing?", "this"),
        ("Explain backpressure, please", "backpressure"),
        ("Расскажи про Волгу", "Расскажи"),
    ],
)
def test_the_topic_is_a_telling_word_of_the_question(question: str, topic: str) -> None:
    assert topic_of(question) == topic
