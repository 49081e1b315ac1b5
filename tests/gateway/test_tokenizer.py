"""The tokenizer of broken streams: a vocabulary that is there counts, and one that can't be had changes nothing."""

from __future__ import annotations

import threading

import orjson
import tiktoken

from proxy.core.usage import Reading, Usage
from proxy.gateway import tokenizer
from proxy.gateway.exchange import Exchange
from proxy.gateway.findings import usage_of
from proxy.gateway.tokenizer import NEWEST, OLDER, SAMPLE_CHARS, Tokenizer, installed
from tests.exchanges import make_exchange


def words(name: str) -> tiktoken.Encoding:
    """A vocabulary of single bytes and "ab", as tiktoken reads it from a file."""
    ranks = {bytes((byte,)): byte for byte in range(256)} | {b"ab": 256}
    return tiktoken.Encoding(name, pat_str=r"\s|\S+", mergeable_ranks=ranks, special_tokens={})


def loaded() -> Tokenizer:
    made = Tokenizer(words)
    made.load()
    return made


def test_it_counts_once_its_vocabulary_is_there() -> None:
    made = Tokenizer(words)
    assert not made.ready
    assert made.counter("gpt-4o") is None
    made.load()
    count = made.counter("gpt-4o")
    assert made.ready
    assert count is not None
    assert count("abab x") == 4
    assert count("<|endoftext|>") == 13


def test_older_models_have_their_own_vocabulary() -> None:
    asked: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def encode_ordinary(self, text: str) -> list[int]:
            asked.append(self.name)
            return []

    made = Tokenizer(Named)
    made.load()
    for model in ("gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "gpt-4o", "gpt-4.1", "gpt-6.1-sol", None):
        count = made.counter(model)
        assert count is not None
        count("x")
    assert asked == [OLDER] * 3 + [NEWEST] * 4


def test_a_vocabulary_that_can_not_be_had_leaves_the_rule() -> None:
    def offline(name: str) -> tiktoken.Encoding:
        raise OSError("no network")

    made = Tokenizer(offline)
    made.load()
    assert not made.ready
    assert made.counter("gpt-4o") is None


def test_a_download_that_hangs_holds_nothing_up() -> None:
    began = threading.Event()
    never = threading.Event()

    def hanging(name: str) -> tiktoken.Encoding:
        began.set()
        never.wait()
        return words(name)

    made = Tokenizer(hanging)
    made.start()
    assert began.wait(30)
    assert not made.ready
    never.set()


def test_of_a_long_text_a_sample_is_counted() -> None:
    seen: list[int] = []

    class Lengths:
        def encode_ordinary(self, text: str) -> list[int]:
            seen.append(len(text))
            return [0] * (len(text) // 2)

    made = Tokenizer(lambda name: Lengths())
    made.load()
    count = made.counter("gpt-4o")
    assert count is not None
    assert count("x" * SAMPLE_CHARS * 10) == SAMPLE_CHARS * 5
    assert seen == [SAMPLE_CHARS]


def test_it_is_used_where_it_is_installed_and_wanted(monkeypatch) -> None:
    assert installed("none") is None
    assert isinstance(installed("tiktoken"), Tokenizer)

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(tokenizer.importlib, "import_module", missing)
    assert installed("tiktoken") is None


def broken(body: bytes) -> Exchange:
    """An exchange whose client hung up in the middle of a stream."""
    exchange = make_exchange(body)
    exchange.request.complete = True
    exchange.forwarded, exchange.status, exchange.streamed = 1.0, 200, True
    return exchange


BODY = orjson.dumps({"model": "gpt-4o", "max_tokens": 3, "messages": [{"role": "user", "content": "abab"}]})
READ = Reading(delivered_bytes=5, delivered_chars=5, delivered_text="ab ab")


def test_a_broken_stream_is_counted_by_it() -> None:
    exchange = broken(BODY)
    exchange.body = BODY
    # "user", a line's end and two times "ab"; then "ab", a space and "ab"
    assert usage_of(exchange, "client_gone", READ, loaded()) == (Usage(7, 3, 10), "estimated")


def test_what_was_not_kept_is_estimated_by_the_rule() -> None:
    exchange = broken(BODY)
    by_rule = -(-len(BODY) // 4)
    assert usage_of(exchange, "client_gone", READ, loaded())[0] == Usage(by_rule, 3, by_rule + 3)
    assert usage_of(exchange, "client_gone", READ, Tokenizer(words))[0] == Usage(by_rule, 2, by_rule + 2)


def test_what_was_reported_is_not_counted() -> None:
    reported = Reading(usage=Usage(1, 2, 3), delivered_text="ab" * 50)
    assert usage_of(broken(BODY), "client_gone", reported, loaded()) == (Usage(1, 2, 3), "reported")
