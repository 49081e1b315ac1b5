"""The keyring: every live key of the proxy in this worker's memory. Who calls is decided without asking anybody.

Guarantees: a key issued, changed or revoked anywhere takes effect here as soon as Postgres tells (NOTIFY, tens of
milliseconds), at the latest with the next periodic reload. While Postgres is away the last known keys go on, also over
a restart: a snapshot of digests (never keys) lies in the data dir. Revoked keys stay known, so that they are told apart
from unknown ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from proxy.core.caller import Caller
from proxy.core.key import digest as digest_of
from proxy.core.key import is_well_formed
from proxy.core.keyrow import (
    NO_GROUP,
    GroupRow,
    KeyRow,
    build_caller,
    next_raise_end,
    read_group_row,
    read_key_row,
    read_plan,
    read_quotas,
    subject_of,
    user_quotas,
)
from proxy.core.objects import Owner
from proxy.core.quota import Quota, Scope
from proxy.core.refusal import Refusal, invalid_key, unavailable
from proxy.gateway import keyfile
from proxy.store import keys_live
from proxy.store.keys_live import LiveRows
from proxy.store.listen import Listener
from proxy.store.postgres import MISCONFIGURED, UNAVAILABLE, Pool, PostgresError

log = logging.getLogger(__name__)
CHANNEL = "openai_proxy_changed"
COALESCE_S = 0.02
"""A burst of notifications is one refresh."""
LAST_USED_EVERY_S = 30.0
_OTHERS = frozenset({"prices", "erasures"})
"""Tables whose changes are told on the same channel and concern no key."""
_HINT = "You can ask whoever runs this proxy for a key."
_ENDED = {
    "revoked": "The API key provided has been revoked.",
    "expired": "The API key provided has expired.",
    "inactive": "The user or group of this API key is not active.",
}


class Keyring:
    """Live keys. `lookup` is the hot path; everything else happens in one background task."""

    def __init__(
        self,
        pool: Pool,
        *,
        listen_url: str,
        snapshot: Path | None,
        reload_s: float,
        on_loaded: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`listen_url`: a direct URL of the same database; `snapshot`: the file that a start without Postgres reads."""
        self._pool = pool
        self._snapshot = snapshot
        self._reload_s = reload_s
        self._on_loaded = on_loaded
        self._clock = clock
        self._rows = LiveRows()
        self._callers: dict[bytes, Caller] = {}
        self._quotas: dict[str, tuple[Quota, ...]] = {}
        self._used: dict[str, float] = {}
        self._raise_ends: float | None = None
        self._listener = Listener(listen_url, (CHANNEL,), self._notified, self._reconnected)
        self._changed = asyncio.Event()
        self._read_all = True
        self._task: asyncio.Task[None] | None = None
        self._last_used_at = time.monotonic()
        self._unsaved = False
        self._save_at = 0.0
        self.ready = False
        """Keys were read from Postgres since the start, and the last attempt to read them worked."""
        self.loaded_at: float | None = None
        """Unix seconds of the last time the keys were known to be as in Postgres."""

    # the hot path

    def lookup(self, token: bytes, now: float, digest: bytes | None = None) -> Caller:
        """Who `token` belongs to. Raises Refusal 401, its `reason` one of missing, malformed, unknown, revoked, expired,
        inactive; or 503 before any keys are known. `now`: Unix seconds; `digest`: the token's, where it was made already.
        """
        if digest is None:
            digest = digest_of(token)
        caller = self.live(digest, now)
        if caller is None:
            caller = self._admit(token, digest, now)
            self._used[caller.key_id] = now
        return caller

    def live(self, digest: bytes, now: float) -> Caller | None:
        """Who a key belongs to that was looked up before; None: look it up."""
        caller = self._callers.get(digest)
        if caller is None or (caller.expires_at is not None and now >= caller.expires_at):
            return None
        self._used[caller.key_id] = now
        return caller

    def end_user_quotas(self, end_user: str) -> tuple[Quota, ...]:
        """Quotas set for one named end user; those that bind each end user alike are in every `Caller.quotas`."""
        return self._quotas_of("end_user", end_user)

    def __len__(self) -> int:
        return len(self._rows.keys)

    def _admit(self, token: bytes, digest: bytes, now: float) -> Caller:
        text = self._rows.keys.get(digest)
        if text is None:
            raise self._refuse_unknown(token)
        row = read_key_row(text)
        group = self._group(row)
        ended = row.ended(now, group_active=group.active)
        if ended is not None:
            raise invalid_key(f"{_ENDED[ended]} {_HINT}", ended)
        caller = self._callers[digest] = build_caller(row, group, self._quotas_binding(row, group))
        return caller

    def bind(self, row: KeyRow) -> Caller:
        """A Caller that is in no row of its own: a service key as the user it speaks for."""
        group = self._group(row)
        return build_caller(row, group, self._quotas_binding(row, group))

    def bearer_of(self, owner: Owner, now: float) -> Caller:
        """The Caller that a client secret stands for. Raises Refusal 401 when its key is good no more."""
        assert owner.key_digest is not None
        caller = self._callers.get(owner.key_digest) or self._admit(b"", owner.key_digest, now)
        if caller.expires_at is not None and now >= caller.expires_at:
            caller = self._admit(b"", owner.key_digest, now)
        return caller if caller.user_id == owner.user_id else self._as_owner(caller, owner)

    def caller_of(self, owner: Owner) -> Caller:
        """Whom to charge for what an object's maker used, good key or not."""
        text = self._rows.keys.get(owner.key_digest) if owner.key_digest is not None else None
        if text is None:
            return Caller(key_id=owner.key_id, user_id=owner.user_id, group_id=owner.group_id)
        assert owner.key_digest is not None
        row = read_key_row(text)
        caller = self._callers.get(owner.key_digest) or self.bind(row)
        return caller if caller.user_id == owner.user_id else self._as_owner(caller, owner)

    def _as_owner(self, caller: Caller, owner: Owner) -> Caller:
        """A service key's Caller as the user it spoke for, whose own plan is not known here."""
        group = self._rows.groups.get(owner.group_id) if owner.group_id is not None else None
        plan_id = read_group_row(group).plan_id if group is not None else None
        quotas = (
            *self._quotas_of("key", caller.key_id),
            *user_quotas(
                self._quotas_of("user", owner.user_id),
                self._plan(plan_id) if plan_id is not None else (),
                owner.user_id,
            ),
            *self._quotas_of("end_user", None),
            *(self._quotas_of("group", owner.group_id) if owner.group_id is not None else ()),
            *self._quotas_of("everyone", None),
        )
        return replace(caller, user_id=owner.user_id, group_id=owner.group_id, service=False, quotas=quotas)

    def _refuse_unknown(self, token: bytes) -> Refusal:
        if not token:
            return invalid_key(
                "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer"
                f" auth (i.e. Authorization: Bearer YOUR_KEY). {_HINT}",
                "missing",
            )
        if not is_well_formed(token):
            return invalid_key(f"Incorrect API key provided. {_HINT}", "malformed")
        if self.loaded_at is None:
            return unavailable(
                "keys_not_loaded", "The proxy has not read its keys yet.", 1, "keys_not_loaded"
            )
        return invalid_key(f"Incorrect API key provided. {_HINT}", "unknown")

    def _group(self, row: KeyRow) -> GroupRow:
        text = self._rows.groups.get(row.group_id) if row.group_id is not None else None
        return read_group_row(text) if text is not None else NO_GROUP

    def _quotas_binding(self, row: KeyRow, group: GroupRow) -> tuple[Quota, ...]:
        plan_id = row.plan_id or group.plan_id
        plan = self._plan(plan_id) if plan_id is not None else ()
        return (
            *self._quotas_of("key", row.key_id),
            *user_quotas(self._quotas_of("user", row.user_id), plan, row.user_id),
            *self._quotas_of("end_user", None),
            *(self._quotas_of("group", row.group_id) if row.group_id is not None else ()),
            *self._quotas_of("everyone", None),
        )

    def _plan(self, plan_id: str) -> tuple[Quota, ...]:
        known = self._quotas.get(f"plan:{plan_id}")
        if known is None:
            known = read_plan(plan_id, self._rows.plans.get(plan_id, "[]"))
            self._quotas[f"plan:{plan_id}"] = known
        return known

    def _quotas_of(self, scope: Scope, scope_id: str | None) -> tuple[Quota, ...]:
        subject = subject_of(scope, scope_id)
        text = self._rows.quotas.get(subject)
        if text is None:
            return ()
        known = self._quotas.get(subject)
        if known is None:
            now = self._clock()
            known = self._quotas[subject] = read_quotas(text, now)
            ends = next_raise_end(text, now)
            if ends is not None:
                self._raise_ends = min(ends, self._raise_ends or ends)
        return known

    # the background

    async def start(self) -> None:
        """Read the keys: from Postgres, else from the snapshot; then keep them fresh in the background.

        Raises one of postgres.MISCONFIGURED when Postgres is there and won't have us.
        """
        assert self._task is None, "a keyring starts once"
        await self._reload(starting=True)
        if not self.ready and self._snapshot is not None:
            await self._restore(self._snapshot)
        self._listener.start()
        self._task = asyncio.get_running_loop().create_task(self._keep_fresh(), name="keyring")

    async def stop(self) -> None:
        """End the background, noting last uses and the newest keys where that is possible."""
        await self._listener.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self.ready:
            await self._note_last_used()

    async def _keep_fresh(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._changed.wait()
                await asyncio.sleep(COALESCE_S)
            self._changed.clear()
            try:
                await self._reload()
                await self._save()
                if time.monotonic() - self._last_used_at > LAST_USED_EVERY_S and self.ready:
                    await self._note_last_used()
            except Exception:
                log.exception("refreshing the keys failed, tried again")

    def _pause(self) -> float:
        pause = self._reload_s
        if self._raise_ends is not None:
            pause = min(pause, max(0.0, self._raise_ends - self._clock()))
        if self._unsaved:
            pause = min(pause, max(0.0, self._save_at - time.monotonic()))
        return pause

    async def _reload(self, *, starting: bool = False) -> None:
        """Read all keys, or what changed since they were read last. Without Postgres all stays as it is."""
        try:
            changes = None if self._read_all else await keys_live.refresh(self._pool, self._rows)
            if changes is None:
                self._read_all = False
                self._rows = await keys_live.load(self._pool)
        except (*UNAVAILABLE, PostgresError) as error:
            if starting and isinstance(error, MISCONFIGURED):
                raise
            self._read_all = True
            self.ready = False
            log.warning(
                "keys can't be read from Postgres, the last known go on", extra={"error": repr(error)}
            )
            return
        self.ready = True
        self.loaded_at = self._clock()
        if changes != 0:
            self._unsaved = True
        if changes != 0 or (self._raise_ends is not None and self._raise_ends <= self.loaded_at):
            self._forget_callers()
        self._on_loaded()

    def _forget_callers(self) -> None:
        """Callers and quotas are built anew when they are asked for; a few microseconds for each key in use."""
        self._callers.clear()
        self._quotas.clear()
        self._raise_ends = None

    async def _save(self) -> None:
        if self._snapshot is None or not self._unsaved or time.monotonic() < self._save_at:
            return
        began = time.monotonic()
        # nobody else changes the rows meanwhile: only this task does
        await asyncio.to_thread(keyfile.write, self._snapshot, self._rows, self.loaded_at or 0.0)
        self._unsaved = False
        # however many keys there are, writing them takes at most a twentieth of the time
        self._save_at = time.monotonic() + 20 * (time.monotonic() - began)

    async def _restore(self, snapshot: Path) -> None:
        found = await asyncio.to_thread(keyfile.read, snapshot)
        if found is not None:
            self._rows, self.loaded_at = found
            log.warning(
                "started on the last known keys",
                extra={"keys": len(self._rows.keys), "age_s": round(self._clock() - self.loaded_at)},
            )

    async def _note_last_used(self) -> None:
        self._last_used_at = time.monotonic()
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await keys_live.set_last_used(self._pool, used)
        except (*UNAVAILABLE, PostgresError) as error:
            self._used = used | self._used
            log.info("last use of keys not noted, tried again", extra={"error": repr(error)})

    def _notified(self, _channel: str, table: str) -> None:
        if table not in _OTHERS:
            self._changed.set()

    def _reconnected(self) -> None:
        # what was notified meanwhile is lost, and the server may be another one
        self._read_all = True
        self._changed.set()
