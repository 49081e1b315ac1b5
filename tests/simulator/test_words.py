"""What the simulator counts, by hand."""

from __future__ import annotations

import pytest

from proxy.simulator import models, words
from proxy.simulator.problems import Problem, raise_wanted


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2)])
def test_a_token_is_four_characters_rounded_up(text: str, tokens: int):
    assert words.count_tokens(text) == tokens


def test_contents_of_all_forms_are_counted():
    parts = [{"type": "text", "text": "abcd"}, {"type": "image_url", "image_url": {"url": "data:"}}, "abcd"]
    assert words.input_tokens(["abcd", parts, None]) == 3 + (4 + 1) + (4 + 2) + 4


def test_a_reply_is_its_pieces():
    reply = words.reply(models.find("gpt-4o"), ["Hi"], None)
    assert reply.text.startswith("This is a simulated answer by gpt-4o. You said: “Hi”")
    assert reply.output_tokens == len(reply.pieces) == words.count_tokens(reply.text)
    assert reply.finish_reason == "stop"


def test_long_questions_are_quoted_in_part():
    reply = words.reply(models.find("gpt-4o"), ["x" * 10_000], None)
    assert len(reply.text) < 400


@pytest.mark.parametrize("value", [0, -1, "5", 2.5, True])
def test_a_ceiling_is_a_number_above_zero(value: object):
    with pytest.raises(Problem) as raised:
        words.ceiling_of({"max_tokens": value}, "max_tokens")
    assert (raised.value.status, raised.value.param) == (400, "max_tokens")


def test_only_statuses_of_errors_can_be_wished_for():
    raise_wanted("simulate-error-200", "simulate-error-999", "error-500")
    with pytest.raises(Problem) as raised:
        raise_wanted("gpt-4o", "please simulate-error-418")
    assert raised.value.status == 418


@pytest.mark.parametrize("name", [None, "", 5, "gpt-none"])
def test_a_model_that_is_not_there_is_a_problem(name: object):
    with pytest.raises(Problem):
        models.find(name)
