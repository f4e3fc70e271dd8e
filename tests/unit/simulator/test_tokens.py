from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from simulator import tokens


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_gives_the_text_back(text: str) -> None:
    assert tokens.decode(tokens.encode(text)) == text
    assert tokens.count(text) == len(tokens.encode(text))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_pieces_join_to_the_text_and_their_json_is_the_texts(text: str) -> None:
    pieces = tokens.pieces(text)
    assert "".join(piece.text for piece in pieces) == text
    assert json.loads(b'"%b"' % b"".join(piece.json for piece in pieces)) == text


def test_a_token_is_about_four_characters_and_the_chat_marks_are_one_each() -> None:
    assert tokens.count("<|im_start|>") == 1
    assert 15 <= tokens.count("An unusual questionnaire concerning hydroelectricity") <= 20


def test_ids_stay_exact_in_javascript() -> None:
    assert max(tokens.encode("zzzz\U0010ffff流")) < 2**53


def test_an_id_that_stands_for_nothing_is_a_replacement_character() -> None:
    assert tokens.decode([65536 + 0xD800, 50_000]) == "\ufffd\ufffd"
