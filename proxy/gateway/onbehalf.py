"""On behalf of: a service key's call belongs to the user that X-Usage-User names, and counts against that user's limits.

The user is named by id, external id or e-mail. What was looked up once is kept until the keyring hears of a change; what
memory doesn't know is looked up before anything is sent, and created on sight where the key allows it.
"""

from __future__ import annotations

from typing import Any

from proxy.core.caller import Caller
from proxy.core.keyrow import KeyRow
from proxy.core.refusal import Refusal, unavailable
from proxy.gateway.keyring import Keyring
from proxy.store import named_users
from proxy.store.named_users import NamedUser
from proxy.store.postgres import RETRYABLE, UNAVAILABLE, Pool

NAMES_MAX = 100_000
PARAM = "X-Usage-User"
RETRY_AFTER_S = 1


class OnBehalf:
    """Whom service keys speak for. One per worker."""

    def __init__(self, keyring: Keyring, pool: Pool) -> None:
        self._keyring = keyring
        self._pool = pool
        self._known: dict[tuple[str, str], Caller] = {}

    def known(self, caller: Caller, name: str) -> Caller | None:
        """The named user's Caller under this key; None when it must be looked up. Raises Refusal 403 for other keys."""
        if not caller.service:
            raise Refusal(
                403,
                "not_a_service_key",
                f"Only a service key may name another user in {PARAM}.",
                param=PARAM,
                reason="not_a_service_key",
            )
        return self._known.get((caller.key_id, name))

    async def find(self, caller: Caller, name: str) -> Caller:
        """Look the user up, or create it where the key may. Raises Refusal: 403, 404 or, without Postgres, 503."""
        try:
            user = await named_users.find(self._pool, name, create=caller.creates_users)
        except (*UNAVAILABLE, *RETRYABLE):
            raise unavailable(
                "user_unknown_now",
                "The named user can't be looked up at the moment.",
                RETRY_AFTER_S,
                "user_lookup",
            ) from None
        if user is None:
            raise Refusal(
                404,
                "user_not_found",
                f"{PARAM} names no user of this proxy.",
                param=PARAM,
                reason="user_not_found",
            )
        if not user.active:
            raise Refusal(
                403,
                "user_inactive",
                f"The user that {PARAM} names is not active.",
                param=PARAM,
                reason="user_inactive",
            )
        found = self._keyring.bind(_row(caller, user))
        if len(self._known) >= NAMES_MAX:
            self._known.clear()
        self._known[caller.key_id, name] = found
        return found

    def forget(self) -> None:
        """Something about users, groups, plans or quotas changed."""
        self._known.clear()


def _row(caller: Caller, user: NamedUser) -> KeyRow:
    """The service key as if it were the user's: what the key may do is narrowed by what the user may."""
    allowed: dict[str, Any] = {
        "allowed_models": caller.allowed_models,
        "allowed_endpoints": caller.allowed_endpoints,
        "allowed_operations": caller.allowed_operations,
        "max_request_tokens": caller.max_request_tokens,
        "max_request_cost_nanousd": caller.max_request_cost_nanousd,
    }
    return KeyRow(
        key_id=caller.key_id,
        user_id=user.id,
        group_id=user.group_id,
        plan_id=user.plan_id,
        active=True,
        service=False,
        creates_users=False,
        expires_at=caller.expires_at,
        revoked_at=None,
        default_operation=caller.default_operation,
        default_tags=dict(caller.default_tags),
        key_settings={name: value for name, value in allowed.items() if value is not None},
        user_settings=user.settings,
    )
