"""Names of models: which price lists' entries a served model's name may stand for."""

from __future__ import annotations

import re

_DATED = re.compile(
    r"-(?:20\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"  # gpt-4o-2024-11-20
    r"|20\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"  # gpt-5.2-20251211, as some routers write it
    r"|(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))$"  # gpt-3.5-turbo-0125
)
FINE_TUNED = "ft:"


def canonical(model: str) -> str:
    """Lower case, and a fine-tuned model without what its owner named it: ft:gpt-4o-mini-2024-07-18:org:name:id is
    `ft:gpt-4o-mini-2024-07-18`. That part is free text, and must not decide a price.
    """
    model = model.strip().lower()
    if model.startswith(FINE_TUNED):
        return FINE_TUNED + model.removeprefix(FINE_TUNED).partition(":")[0]
    return model


def alias_of(model: str) -> str | None:
    """The name without the date of a snapshot: `gpt-4o` for gpt-4o-2024-11-20; None when it bears none."""
    alias = _DATED.sub("", model)
    return alias if alias != model and alias not in {"", FINE_TUNED} else None
