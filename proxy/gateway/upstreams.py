"""The upstreams: OpenAI, and any other that speaks its protocol, chosen by the model a request names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from proxy.core.headers import HeaderPolicy, policy_value
from proxy.gateway.dial import Dialer, EgressProxy, Origin, bypasses_proxy
from proxy.gateway.upstream import Pool
from proxy.pricing.providers import provider_of
from proxy.settings import Settings, SettingsError

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream: where it is, what it is told, and how its use is priced."""

    name: str
    provider: str
    host: str
    prefix: bytes
    """Path before /v1; b"" at OpenAI."""
    policy: HeaderPolicy
    pool: Pool
    models: tuple[str, ...]
    """Patterns (fnmatch) of the models it serves; () for the default."""


class Upstreams:
    """The configured upstreams; the first whose pattern matches the model serves it, else the default."""

    def __init__(self, default: Upstream, others: tuple[Upstream, ...] = ()) -> None:
        self.default = default
        self.others = others

    def choose(self, model: str | None) -> Upstream:
        """The upstream for a model; without a model, the default."""
        if self.others and model is not None:
            for upstream in self.others:
                if any(fnmatchcase(model, pattern) for pattern in upstream.models):
                    return upstream
        return self.default

    def named(self, name: str) -> Upstream:
        """The upstream of that name; the default where there is none of it any more."""
        return next((upstream for upstream in self.others if upstream.name == name), self.default)

    def __iter__(self) -> Any:
        yield self.default
        yield from self.others


def build(settings: Settings, upstream_url: str, *, clock: Callable[[], float]) -> Upstreams:
    """All upstreams of the settings. Raises SettingsError."""
    key = settings.openai_api_key.get_secret_value()
    try:
        default = _build_one(settings, DEFAULT, upstream_url, key, None, (), clock=clock)
        others = []
        for entry in settings.upstreams:
            entry_key = entry.key.get_secret_value()
            if entry.key_file is not None:
                entry_key = entry.key_file.read_text().strip()
            others.append(
                _build_one(
                    settings,
                    entry.name,
                    entry.url,
                    entry_key,
                    entry.provider,
                    entry.models,
                    clock=clock,
                )
            )
    except (OSError, ValueError) as error:
        raise SettingsError(f"upstream: {error}") from None
    return Upstreams(default, tuple(others))


def _build_one(
    settings: Settings,
    name: str,
    url: str,
    key: str,
    provider: str | None,
    models: tuple[str, ...],
    *,
    clock: Callable[[], float],
) -> Upstream:
    origin = Origin.parse(url)
    egress = None
    if (
        settings.upstream_proxy
        and origin.scheme == "https"
        and not bypasses_proxy(origin.host, settings.upstream_no_proxy)
    ):
        egress = EgressProxy.parse(settings.upstream_proxy)
    dialer = Dialer(
        origin,
        ca_file=settings.upstream_ca_file,
        egress=egress,
        timeout_s=settings.upstream_connect_timeout_s,
    )
    policy = HeaderPolicy(
        host=origin.authority.encode(),
        authorization=f"Bearer {key}".encode() if key else None,
        key=key.encode(),
        organization=policy_value(settings.organization_header),
        project=policy_value(settings.project_header),
    )
    pool = Pool(dialer, keepalive_s=settings.upstream_keepalive_s, clock=clock)
    return Upstream(
        name,
        provider or provider_of(origin.host, default="openai" if name == DEFAULT else name),
        origin.host,
        origin.prefix.encode(),
        policy,
        pool,
        models,
    )
