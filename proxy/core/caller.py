"""Caller: who makes a call, as the pass knows it after authentication. Built from rows, held in memory by the keyring."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.core.quota import Quota


@dataclass(frozen=True, slots=True)
class Caller:
    """A live key, the user it belongs to, and the rules that bind them. One object per key, shared by all its calls."""

    key_id: str
    user_id: str
    group_id: str | None = None
    service: bool = False
    """May speak for other users (`X-Usage-User`)."""
    creates_users: bool = False
    """A service key that may create the users it names on sight."""
    expires_at: float | None = None
    """Unix seconds; the key is refused from then on."""
    default_operation: str | None = None
    default_tags: tuple[tuple[str, str], ...] = ()
    allowed_operations: frozenset[str] | None = None
    """Operations that the group allows; others are recorded as "other". None: all."""
    allowed_models: tuple[str, ...] | None = None
    """Patterns (fnmatch). None: all."""
    allowed_endpoints: tuple[str, ...] | None = None
    """Patterns over endpoint templates. None: all."""
    allowed_addresses: tuple[str, ...] | None = None
    """Networks in CIDR form that the key may be used from. None: all."""
    max_concurrent: int | None = None
    max_request_tokens: int | None = None
    max_request_cost_nanousd: int | None = None
    quotas: tuple[Quota, ...] = field(default=())
    """Every quota that binds this key, its user, group and everyone, in a stable order."""

    @property
    def knows_models(self) -> bool:
        """A rule of this key depends on the model that a request names."""
        return self.allowed_models is not None or any(quota.model is not None for quota in self.quotas)

    @property
    def reads_bodies(self) -> bool:
        """A rule of this key needs to know what a request's body says, before it is forwarded."""
        return (
            self.allowed_models is not None
            or self.max_request_tokens is not None
            or self.max_request_cost_nanousd is not None
            or any(quota.unit != "requests" or quota.model is not None for quota in self.quotas)
        )
