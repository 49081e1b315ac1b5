"""What Postgres' constraints say about a value that a person gave, in words that name the field.

The database is where uniqueness and references are decided, so two requests at once can't both be right. These two
exceptions are all that callers see of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

# constraint -> (field as the API names it, what is wrong)
_TAKEN = {
    "users_email": ("email", "another user has this e-mail address"),
    "users_external_id_key": ("external_id", "another user has this external id"),
    "groups_external_id_key": ("external_id", "another group has this external id"),
    "plans_name_key": ("name", "another plan has this name"),
    "admin_keys_digest_key": ("key", "this admin key exists already"),
    "keys_digest_key": ("key", "this key exists already"),
    "prices_provider_model_tier_starts_at_key": (
        "starts_at",
        "this model and tier has a price from that time on",
    ),
}
_MISSING = {
    "users_group_id_fkey": "group",
    "users_plan_id_fkey": "plan",
    "groups_plan_id_fkey": "plan",
    "keys_user_id_fkey": "user_id",
    "admin_keys_group_id_fkey": "group",
}


class TakenError(Exception):
    """A value that must be unique belongs to another row already."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class MissingError(Exception):
    """A row that was named does not exist (or not for who asks)."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@contextmanager
def named() -> Iterator[None]:
    """Within it, a broken constraint is raised as TakenError or MissingError."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        field, message = _TAKEN.get(error.constraint_name, (error.constraint_name, "exists already"))
        raise TakenError(field, message) from error
    except asyncpg.ForeignKeyViolationError as error:
        field = _MISSING.get(error.constraint_name, error.constraint_name)
        raise MissingError(field, f"{field} does not exist, or is still in use") from error
