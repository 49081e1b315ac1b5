"""Takes credentials out of text before it is recorded or logged."""

from __future__ import annotations

import re

REDACTED = "***"

# OpenAI's keys (sk-, sk-proj-, sk-admin-, sess-, ek_), this proxy's own, bearer tokens and JWTs. OpenAI's own messages mask keys
# with asterisks (`sk-ab***yz`); what is left of them goes as well.
_CREDENTIAL = re.compile(
    r"\b(?:sk|rk|pk|sess|ek|eph|org-key)[-_][A-Za-z0-9_*.\-]{6,}"
    r"|\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)?"
    r"|(?i:\bbearer\s+)[A-Za-z0-9._~+/=*\-]{6,}"
    r"|(?i:\b(?:api[-_]?key|authorization|password|secret|token)\b[\"']?\s*[:=]\s*[\"']?(?:bearer\s+)?)[^\s\"',;&]{6,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def redact(text: str) -> str:
    """The text with every credential replaced by `***`; a `Bearer ` or `api_key=` before it goes with it."""
    return _CREDENTIAL.sub(REDACTED, text)


def shorten(text: str, chars_max: int) -> str:
    """Redacted, on one line of printable characters, at most `chars_max` long (an ellipsis marks the cut)."""
    window = text[: chars_max * 8]
    clean = " ".join(redact(window).split())
    clean = "".join(char if char.isprintable() else "?" for char in clean)
    if len(clean) > chars_max or len(window) < len(text):
        return clean[: chars_max - 1] + "…"
    return clean
