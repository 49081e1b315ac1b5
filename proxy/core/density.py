"""Density: how much structure there is in the body of a request. What it takes to read a body goes by that, not by its size.

Texts, pictures and numbers are read at a nanosecond for a byte; 32 MiB of `[],` keep a worker from everybody else for half a
minute. No request that a model can answer has a fraction of what is allowed here.
"""

from __future__ import annotations

from proxy.core.refusal import Refusal

CONTAINERS_MAX = 2**18
"""Lists and objects."""
MARKS_MAX = 2**18
"""Brackets, commas and colons, where the body is no JSON to a strict parser and is read step by step."""
TEXTS_MAX = 2**20
"""Texts that are told from what stands around them; a body of more is dense."""


def refuse_dense(body: bytes) -> None:
    """Refuse (413) a body with more lists and objects than are built. Hot path: a small body can't have so many."""
    if len(body) > CONTAINERS_MAX and _more(body, (b"[", b"{"), CONTAINERS_MAX):
        raise _refused(f"made of more than {CONTAINERS_MAX} lists and objects")


def refuse_dense_text(body: bytes) -> None:
    """Refuse (413) what would take too many steps where it is read leniently."""
    if len(body) > MARKS_MAX and _more(body, (b"[", b"]", b"{", b"}", b",", b":"), MARKS_MAX):
        raise _refused("no valid JSON, and too much to be read all the same")


def _more(body: bytes, marks: tuple[bytes, ...], limit: int) -> bool:
    """Whether there are more marks than the limit outside of texts: a text may be a program, or JSON, of any length."""
    if sum(map(body.count, marks)) <= limit:
        return False
    if body.find(b"\\") >= 0:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if body.count(b'"') > 2 * TEXTS_MAX:
        return True
    outside = b"".join(body.split(b'"')[::2])
    return sum(map(outside.count, marks)) > limit


def too_many_parts() -> Refusal:
    """The refusal (413) of a form with more parts than are read, where all of them must be."""
    return _refused("a form of more parts than are read")


def _refused(why: str) -> Refusal:
    return Refusal(413, "request_too_large", f"The request's body is {why}.", reason="request_too_large")
