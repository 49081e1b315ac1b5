"""The composition root: builds each object of a worker once, starts them in order, and stops them in reverse.

Nothing else constructs what lives as long as the worker. Postgres may be away at the start: keys then come from the last
snapshot, requests are served, and /readyz says what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable

from aiohttp import web

from proxy.admin.context import AdminContext
from proxy.admin.site import build_app
from proxy.core.ids import Ids
from proxy.gateway import upstreams
from proxy.gateway.answers import Answers
from proxy.gateway.bearers import Bearers
from proxy.gateway.clocks import Clocks
from proxy.gateway.cors import Cors
from proxy.gateway.follower import Follower
from proxy.gateway.front import Front
from proxy.gateway.handler import Handler
from proxy.gateway.holding import Holder
from proxy.gateway.issued import Issued
from proxy.gateway.keyring import CHANNEL as CHANGED_CHANNEL
from proxy.gateway.keyring import Keyring
from proxy.gateway.ledger import Ledger
from proxy.gateway.lists import Lists
from proxy.gateway.onbehalf import OnBehalf
from proxy.gateway.owners import Owners
from proxy.gateway.ownership import Makers
from proxy.gateway.pressure import Pressure
from proxy.gateway.quotas import CHANNEL as QUOTA_CHANNEL
from proxy.gateway.quotas import Quotas
from proxy.gateway.recorder import Recorder
from proxy.gateway.sockets import as_protocol
from proxy.gateway.tokenizer import installed
from proxy.gateway.upkeep import Upkeep
from proxy.gateway.writethrough import WriteThrough
from proxy.metrics import Metrics
from proxy.pricing.live import PriceSource
from proxy.settings import Settings
from proxy.store import postgres
from proxy.store.listen import Listener
from proxy.store.prices import fetch_stored

log = logging.getLogger(__name__)
TICK_S = 0.25
BACKLOG = 4096
STOP_POLL_S = 0.05
PRICES_RELOAD_S = 300.0
PRICES_TABLE = "prices"
ERASURES_TABLE = "erasures"
FLUSH_WAIT_S = 5.0
"""How long a stop waits for Postgres to take the last records; what it does not take stays in the spool."""


class Application:
    """One worker. `start`, then `serve` for each listening socket, then `stop`."""

    def __init__(
        self,
        settings: Settings,
        *,
        worker: str,
        metrics: Metrics,
        database_url: str,
        upstream_url: str,
        simulated: bool,
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._metrics = metrics
        self._database_url = database_url
        self._upstream_url = upstream_url
        self._simulated = simulated
        self._fronts: set[Front] = set()
        self._servers: list[asyncio.Server] = []
        self._background: list[asyncio.Task[None]] = []
        self._prices_changed = asyncio.Event()
        self._stopping = False

    async def start(self) -> None:
        """Build everything and start it, short of listening. Raises SettingsError, or what a wrong database raises."""
        settings, metrics = self._settings, self._metrics
        loop = asyncio.get_running_loop()
        listen_url = settings.database_listen_url.get_secret_value() or self._database_url
        self._pool = await self._open_pool(settings.database_pool_max)
        # Exports hold connections for as long as their readers take; what else the worker does must not wait for that.
        self._export_pool = await self._open_pool(settings.admin_exports_max)
        self._upstreams = upstreams.build(settings, self._upstream_url, clock=loop.time)
        metrics.on_read.append(self._count_connections)
        self._prices = PriceSource.from_settings(settings, fetch_stored)
        self._tokenizer = installed(settings.tokenizer)
        recorder = WriteThrough if settings.spool == "postgres" else Recorder
        self._recorder = recorder(self._pool, settings, metrics)
        self._upkeep = Upkeep(self._pool, settings)
        self._keyring = Keyring(
            self._pool,
            listen_url=listen_url,
            snapshot=settings.data_dir / "keys.snapshot",
            reload_s=settings.keyring_reload_s,
            on_loaded=self._keys_changed,
        )
        self._onbehalf = OnBehalf(self._keyring, self._pool)
        self._quotas = Quotas(
            self._pool,
            metrics=metrics,
            worker=self._worker,
            database_down=settings.quota_database_down,
            unknown_price=settings.quota_unknown_price,
            share_ttl_s=settings.quota_share_ttl_s,
            end_user_quotas=self._keyring.end_user_quotas,
        )
        self._listener = Listener(
            listen_url, (QUOTA_CHANNEL, CHANGED_CHANNEL), self._notified, self._prices_changed.set
        )
        self._build_pass(settings, metrics, loop, listen_url)
        self._build_control(settings, metrics)
        await self._keyring.start()
        await self._recorder.start()
        self._upkeep.start()
        await self._quotas.start()
        self._listener.start()
        if self._tokenizer is not None:
            self._tokenizer.start()
        self._follower.start()
        await self._admin.setup()
        self._pressure.start(loop)
        self._background = [loop.create_task(self._tick()), loop.create_task(self._keep_prices())]
        log.info("worker started", extra={"worker": self._worker, "simulated": self._simulated})

    async def _open_pool(self, size: int) -> postgres.Pool:
        settings = self._settings
        return await postgres.open_pool(
            self._database_url,
            size_min=0,
            size_max=size,
            timeout_s=settings.database_timeout_s,
            statement_cache=settings.database_statement_cache,
        )

    def _build_pass(
        self, settings: Settings, metrics: Metrics, loop: asyncio.AbstractEventLoop, listen_url: str
    ) -> None:
        # Mersenne Twister, seeded by the system: ids must be unique, not secret, and a system call for each costs 1 µs.
        draw = random.Random(random.SystemRandom().getrandbits(64)).getrandbits  # noqa: S311

        self._pressure = Pressure(settings.overload_lag_s, loop.time, on_refused=self._count_refused)
        clocks = Clocks(loop.time, _now_us, Ids(draw).new)
        cors = Cors(settings.cors, settings.cors_origins)
        owners = Owners(self._pool, settings, metrics=metrics, clock=loop.time)
        makers = Makers(owners, self._quotas, caller_of=self._keyring.caller_of, follow=settings.follow)
        self._ledger = Ledger(
            clocks=clocks,
            quotas=self._quotas,
            makers=makers,
            recorder=self._recorder,
            prices=self._prices,
            metrics=metrics,
            default_output_tokens=settings.default_output_tokens,
            tokenizer=self._tokenizer,
        )
        self._answers = Answers(
            now=loop.time,
            ledger=self._ledger,
            quotas=self._quotas,
            cors=cors,
            metrics=metrics,
            tokenizer=self._tokenizer,
        )
        self._handler = Handler(
            settings,
            clocks=clocks,
            bearers=Bearers(
                self._keyring, owners, trusted_proxies=settings.trusted_proxies, now_us=clocks.now_us
            ),
            owners=owners,
            holder=Holder(
                Lists(owners).look if settings.object_isolation != "off" else None,
                Issued(self._pool, owners, makers).look,
            ),
            onbehalf=self._onbehalf,
            quotas=self._quotas,
            ledger=self._ledger,
            answers=self._answers,
            cors=cors,
            upstreams=self._upstreams,
            pressure=self._pressure,
            metrics=metrics,
        )
        self._follower = Follower(
            self._pool,
            settings,
            listen_url=listen_url,
            clocks=clocks,
            upstreams=self._upstreams,
            owners=owners,
            ledger=self._ledger,
            caller_of=self._keyring.caller_of,
            metrics=metrics,
        )

    def _build_control(self, settings: Settings, metrics: Metrics) -> None:
        self._checks: dict[str, Callable[[], str | None]] = {
            "keys": lambda: (
                None if self._keyring.ready else "keys were not read from Postgres yet, or not lately"
            ),
            "recorder": lambda: (
                "records can't be stored in Postgres at the moment" if self._recorder.failing else None
            ),
            "stopping": lambda: "the server is stopping" if self._stopping else None,
        }
        context = AdminContext(
            settings=settings,
            metrics=metrics,
            pool=lambda: self._pool,
            exports=lambda: self._export_pool,
            ready=self._checks,
            prices=self._prices,
        )
        self._admin = web.AppRunner(
            build_app(context),
            access_log=None,
            keepalive_timeout=settings.keepalive_timeout_s,
            handle_signals=False,
        )

    async def serve(self, sock: socket.socket, ssl_context: ssl.SSLContext | None) -> None:
        """Accept connections on a listening socket."""
        server = self._admin.server
        assert server is not None, "start comes first"

        def front() -> asyncio.Protocol:
            return as_protocol(Front(self._handler, server, self._fronts))

        self._servers.append(
            await asyncio.get_running_loop().create_server(front, sock=sock, ssl=ssl_context, backlog=BACKLOG)
        )

    async def stop(self, drain_s: float) -> None:
        """Accept no more, let what is under way finish for `drain_s`, cancel the rest, record everything."""
        self._stopping = True
        for server in self._servers:
            server.close()
        for front in list(self._fronts):
            front.close_when_idle()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + drain_s
        while self._answers.relays and loop.time() < deadline:  # noqa: ASYNC110  many events, one slow loop
            await asyncio.sleep(STOP_POLL_S)
        for relay in list(self._answers.relays):
            relay.cancel()
        self._pressure.stop()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._admin.cleanup()
        for upstream in self._upstreams:
            upstream.pool.close()
        for front in list(self._fronts):
            front.transport.close()
        await self._follower.stop()
        await self._upkeep.stop()
        await self._recorder.stop(FLUSH_WAIT_S)
        await self._quotas.stop()
        await self._listener.stop()
        await self._keyring.stop()
        for pool in (self._export_pool, self._pool):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_WAIT_S):
                    await pool.close()

    async def _tick(self) -> None:
        """What is due by time: exchanges whose upstream is silent, clients that are, connections that rested long."""
        loop = asyncio.get_running_loop()
        metrics = self._metrics
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._answers.tick()
                now = loop.time()
                for front in [front for front in self._fronts if front.deadline and front.deadline < now]:
                    front.expired()
                opened = idle = 0
                for upstream in self._upstreams:
                    upstream.pool.prune()
                    opened += upstream.pool.open
                    idle += upstream.pool.idle
                relays = self._answers.relays
                metrics.upstream_connections.set(("open",), opened)
                metrics.upstream_connections.set(("idle",), idle)
                metrics.client_connections.set((), len(self._fronts))
                metrics.exchanges_in_flight.set((), len(relays))
                metrics.streams_open.set((), sum(1 for relay in relays if relay.exchange.streamed))
                metrics.ready.set((), int(not any(check() for check in self._checks.values())))
            except Exception:
                log.exception("a tick failed")

    def _notified(self, channel: str, payload: str) -> None:
        """Postgres says that something changed: shares called back, or prices."""
        if channel == QUOTA_CHANNEL:
            self._quotas.on_notify(channel, payload)
        elif payload == PRICES_TABLE:
            self._prices_changed.set()
        elif payload == ERASURES_TABLE:
            self._upkeep.hurry()
            self._recorder.rest_soon()

    def _keys_changed(self) -> None:
        """The keyring has read what changed: what service keys were told about others may be out of date."""
        self._onbehalf.forget()

    async def _keep_prices(self) -> None:
        """Take in changed prices; a new day's prices and a lost notification are found by the periodic reload."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PRICES_RELOAD_S):
                    await self._prices_changed.wait()
            self._prices_changed.clear()
            try:
                await self._prices.reload(self._pool)
            except Exception:
                log.exception("prices not reloaded")
                await asyncio.sleep(TICK_S)

    def _count_refused(self, count: int) -> None:
        self._metrics.refusals.inc(("pressure",), count)

    def _count_connections(self) -> None:
        pools = [upstream.pool for upstream in self._upstreams]
        self._metrics.upstream_opened.values[()] = sum(pool.dialed for pool in pools)
        self._metrics.upstream_reused.values[()] = sum(pool.reused for pool in pools)


def _now_us() -> int:
    return time.time_ns() // 1000
