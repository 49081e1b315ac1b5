"""How each peer is configured and started: one worker on 127.0.0.1, with the benchmark's upstream behind it."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import peers_install

MODEL = "gpt-4o-mini"
KEY = "sk-bench-0123456789"
UPSTREAM_KEY = "sk-real"
ASK_S = 20.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What a peer is started with: where it was installed, a directory for its files, the port it is to listen on, the
    upstream behind it, and a database of its own for those that want one.
    """

    home: Path
    place: Path
    port: int
    upstream: str
    database_url: str | None = None

    def write(self, name: str, text: str) -> str:
        """Put a file into the peer's directory; its path."""
        path = self.place / name
        path.write_text(text)
        return str(path)


@dataclass(frozen=True, slots=True)
class Launch:
    """How it is started and asked. `issue` makes a user's key on the running peer; `url_file` is where a peer that chooses its
    own port writes its address.
    """

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    key: str = KEY
    model: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    issue: Callable[[str], str] | None = None
    url_file: Path | None = None


def envoy(setting: Setting) -> Launch:
    """A listener and a cluster, HTTP/1.1 on both sides, no time limit on a route, no access log."""
    address, port = setting.upstream.removeprefix("http://").split(":")
    route = {"match": {"prefix": "/"}, "route": {"cluster": "openai", "timeout": "0s"}}
    key = {"header": {"key": "authorization", "value": f"Bearer {UPSTREAM_KEY}"}}
    connections = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
            "request_headers_to_add": [key | {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
        },
    }
    config = {
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": setting.port}},
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": connections}]}],
                }
            ],
            "clusters": [
                {
                    "name": "openai",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "openai",
                        "endpoints": [{"lb_endpoints": [{"endpoint": _socket(address, int(port))}]}],
                    },
                }
            ],
        }
    }
    (binary,) = setting.home.glob("lib/python*/site-packages/envoy/_bin/envoy")
    binary.chmod(0o755)
    path = setting.write("envoy.json", json.dumps(config, indent=1))
    quiet = ("--log-level", "error", "--disable-hot-restart")
    return Launch((str(binary), "-c", path, "--concurrency", "1", *quiet))


def _socket(address: str, port: int) -> dict[str, object]:
    return {"address": {"socket_address": {"address": address, "port_value": port}}}


TENSORZERO_CONFIG = """
[gateway]
observability.enabled = false

[models."{model}"]
routing = ["openai"]

[models."{model}".providers.openai]
type = "openai"
model_name = "{model}"
api_base = "{upstream}/v1/"
api_key_location = "none"
"""
TENSORZERO_START = """
import sys, threading
from pathlib import Path
from tensorzero.tensorzero import _start_http_gateway

gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
Path(sys.argv[2]).write_text(gateway.base_url)
threading.Event().wait()
"""
"""The gateway is Rust; its wheel has it as a library that a Python process starts and then leaves alone."""


def tensorzero(setting: Setting) -> Launch:
    """One thread, no database."""
    config = TENSORZERO_CONFIG.format(model=MODEL, upstream=setting.upstream)
    url_file = setting.place / "url"
    return Launch(
        (
            str(setting.home / "bin" / "python"),
            setting.write("start.py", TENSORZERO_START),
            setting.write("tensorzero.toml", config),
            str(url_file),
        ),
        (("TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS", "1"), ("TOKIO_WORKER_THREADS", "1")),
        model=f"tensorzero::model_name::{MODEL}",
        url_file=url_file,
    )


PORTKEY_LOCAL = """
const { Server } = require("node:net");
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, { port, host: "127.0.0.1" }, rest.find((each) => typeof each === "function"));
};
"""
"""It has no option for the address, and a benchmark does not listen on the network."""


def portkey(setting: Setting) -> Launch:
    """Its address for OpenAI comes with each request."""
    start = setting.home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    return Launch(
        (
            "node",
            "--require",
            setting.write("local.cjs", PORTKEY_LOCAL),
            str(start),
            f"--port={setting.port}",
            "--headless",
        ),
        (("NODE_ENV", "production"), ("TRUSTED_CUSTOM_HOSTS", "127.0.0.1")),
        headers=(("x-portkey-provider", "openai"), ("x-portkey-custom-host", f"{setting.upstream}/v1")),
    )


def litellm(setting: Setting) -> Launch:
    """A model with its own address; the master key is the only key. With a database, a user's key with a budget."""
    model = {"model": f"openai/{MODEL}", "api_base": f"{setting.upstream}/v1", "api_key": UPSTREAM_KEY}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": model}],
        "general_settings": {"master_key": KEY}
        | ({"database_url": setting.database_url} if setting.database_url else {}),
        "litellm_settings": {"telemetry": False},
    }
    path = setting.write("litellm.json", json.dumps(config))
    listen = ("--host", "127.0.0.1", "--port", str(setting.port), "--num_workers", "1")
    database = (("DATABASE_URL", setting.database_url),) if setting.database_url else ()
    return Launch(
        (str(setting.home / "bin" / "litellm"), "--config", path, *listen, "--telemetry", "False"),
        (
            ("LITELLM_MODE", "PRODUCTION"),
            ("LITELLM_LOG", "ERROR"),
            ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
            *database,
        ),
        issue=_litellm_key if setting.database_url else None,
    )


def _litellm_key(url: str) -> str:
    return str(
        _made(url, "/key/generate", {"models": [MODEL], "max_budget": 1e6, "budget_duration": "30d"})["key"]
    )


def prisma(home: Path) -> None:
    """LiteLLM's way to its database is generated, by a tool that fetches its engines itself."""
    (schema,) = home.glob("lib/python*/site-packages/litellm/proxy/schema.prisma")
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {
        "PATH": path,
        "PRISMA_HOME_DIR": str(home),
        "PRISMA_BINARY_CACHE_DIR": str(home / "prisma-engines"),
    }
    peers_install.run([str(home / "bin" / "prisma"), "generate", "--schema", str(schema)], home, environment)


def any_llm(setting: Setting) -> Launch:
    """With a database, a price, and a user who has a key and a budget."""
    assert setting.database_url is not None
    config = {
        "host": "127.0.0.1",
        "port": setting.port,
        "database_url": setting.database_url.replace("postgresql://", "postgresql+psycopg2://"),
        "master_key": KEY,
        "bootstrap_api_key": False,
        "providers": {"openai": {"api_key": UPSTREAM_KEY, "api_base": f"{setting.upstream}/v1"}},
        "pricing": {f"openai:{MODEL}": {"input_price_per_million": 0.15, "output_price_per_million": 0.6}},
    }
    path = setting.write("any-llm.json", json.dumps(config))
    command = (str(setting.home / "bin" / "any-llm-gateway"), "serve", "--config", path, "--log-level", "40")
    return Launch(command, model=f"openai:{MODEL}", issue=_any_llm_key)


def _any_llm_key(url: str) -> str:
    budget = _made(url, "/v1/budgets", {"max_budget": 1e6, "budget_duration_sec": 30 * 86_400})
    _made(url, "/v1/users", {"user_id": "bench", "budget_id": budget["budget_id"]})
    return str(_made(url, "/v1/keys", {"key_name": "bench", "user_id": "bench"})["key"])


def _made(url: str, path: str, what: dict[str, object]) -> dict[str, object]:
    """What a peer's own administration made, asked with the master key."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(url + path, json.dumps(what).encode(), headers)
    with urllib.request.urlopen(request, timeout=ASK_S) as answer:
        made: dict[str, object] = json.load(answer)
        return made
