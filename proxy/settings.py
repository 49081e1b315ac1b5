"""Settings: the only reader of the environment and of config.toml.

Each setting is `PROXY_<NAME>` in the environment or `<name>` in the TOML file named by `--config` or PROXY_CONFIG; the
environment wins. Each secret may be given as `…_FILE`, a path whose content (stripped) is the value. `config.example.toml`
shows them all; a test fails when one is missing there or in docs/reference/settings.md.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from proxy.core.currency import Currencies

MIB = 2**20
ADMIN_KEY_CHARS_MIN = 16
Seconds = Annotated[float, Field(gt=0, le=86_400 * 366)]
A_USERS_KEY = "PROXY_KEY"
"""Where documentation keeps a user's key. No setting, but people type commands in the shell where they exported it."""
SECRETS = ("openai_api_key", "database_url", "database_listen_url", "admin_key", "admin_jwt_secret")
LISTS = (
    "upstreams",
    "cors_origins",
    "trusted_proxies",
    "rollup_tags",
    "currencies",
    "prices",
    "admin_cors_origins",
)
"""Settings that hold more than one value."""


class SettingsError(Exception):
    """A setting is missing or wrong; the message is one line for a person."""


class UpstreamSettings(BaseModel):
    """One further upstream that speaks OpenAI's protocol: `[[upstreams]]` in config.toml."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, pattern=r"^[a-z0-9][a-z0-9_-]*$")
    url: str
    key: SecretStr = SecretStr("")
    key_file: Path | None = None
    models: tuple[str, ...] = Field(min_length=1)
    provider: str | None = None


class Settings(BaseSettings):
    """Everything that can be set. Times in seconds, sizes in bytes, unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="PROXY_",
        env_ignore_empty=True,  # compose files pass on what is not set as an empty text
        enable_decoding=False,  # _lists reads lists, with commas as people write them
        extra="forbid",
        populate_by_name=True,
        frozen=True,
    )

    # upstream
    openai_api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("OPENAI_API_KEY", "PROXY_OPENAI_API_KEY", "openai_api_key"),
    )
    upstream_url: str = "https://api.openai.com"
    upstreams: tuple[UpstreamSettings, ...] = ()
    upstream_ca_file: Path | None = None
    upstream_proxy: str | None = Field(
        default=None,
        validation_alias=AliasChoices("PROXY_UPSTREAM_PROXY", "upstream_proxy", "HTTPS_PROXY", "https_proxy"),
    )
    upstream_no_proxy: str = Field(
        default="",
        validation_alias=AliasChoices("PROXY_UPSTREAM_NO_PROXY", "upstream_no_proxy", "NO_PROXY", "no_proxy"),
    )
    upstream_connect_timeout_s: Seconds = 10.0
    upstream_first_byte_timeout_s: Seconds = 600.0
    upstream_idle_timeout_s: Seconds = 300.0
    upstream_keepalive_s: Seconds = 60.0
    upstream_connections_max: int = Field(default=10_000, ge=1)
    organization_header: str = "keep"
    project_header: str = "keep"
    cors: Literal["pass", "answer"] = "pass"
    cors_origins: tuple[str, ...] = ("*",)

    # listener
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    keepalive_timeout_s: Seconds = 75.0
    request_head_timeout_s: Seconds = 30.0
    request_idle_timeout_s: Seconds = 120.0
    drain_s: float = Field(default=30.0, ge=0)

    # limits of the data path
    exchanges_max: int = Field(default=10_000, ge=1)
    overload_lag_s: float = Field(default=0.25, ge=0)
    body_read_max_bytes: int = Field(default=32 * MIB, ge=1024)
    body_read_total_max_bytes: int = Field(default=512 * MIB, ge=1024)

    # metering
    on_client_disconnect: Literal["cancel", "drain"] = "cancel"
    drain_limit_s: Seconds = 60.0
    tokenizer: Literal["tiktoken", "none"] = "tiktoken"
    default_output_tokens: int = Field(default=4096, ge=0)
    rollup_tags: tuple[str, ...] = ()

    # objects
    object_isolation: Literal["user", "group", "off"] = "user"
    unknown_objects: Literal["allow", "refuse"] = "allow"
    realtime_calls: Literal["pass", "refuse"] = "pass"
    follow: bool = True
    follow_first_s: Seconds = 10.0
    follow_max_s: Seconds = 300.0
    follow_give_up_s: Seconds = 8 * 86_400.0

    # money
    currencies: dict[str, dict[str, str]] = Field(default_factory=dict)
    prices: tuple[dict[str, Any], ...] = ()
    price_uplift: str = "auto"

    # quotas
    quota_database_down: Literal["allow", "refuse"] = "allow"
    quota_unknown_price: Literal["refuse", "allow"] = "refuse"
    quota_share_ttl_s: float = Field(default=30.0, ge=1, le=3600)

    # storage
    database_url: SecretStr = SecretStr("")
    database_listen_url: SecretStr = SecretStr("")
    database_pool_max: int = Field(default=4, ge=2, le=100)
    database_statement_cache: bool = True
    database_timeout_s: Seconds = 30.0
    data_dir: Path = Path("data")
    spool: Literal["disk", "postgres"] = "disk"
    spool_fsync: str = "50ms"
    spool_max_bytes: int = Field(default=1024 * MIB, ge=MIB)
    spool_full: Literal["refuse", "drop"] = "refuse"
    flush_interval_s: float = Field(default=0.2, gt=0, le=60)
    keyring_reload_s: Seconds = 30.0
    retention_records_days: int = Field(default=400, ge=1)
    retention_jsonl_days: int = Field(default=30, ge=1)
    jsonl_log: bool = False

    # control plane
    admin_key: SecretStr = SecretStr("")
    admin_cors_origins: tuple[str, ...] = ()
    admin_requests_per_minute: int = Field(default=600, ge=1)
    admin_statement_timeout_s: Seconds = 20.0
    admin_exports_max: int = Field(default=2, ge=1, le=50)
    admin_jwt_secret: SecretStr = SecretStr("")
    admin_jwks_url: str = ""
    admin_jwt_issuer: str = ""
    admin_jwt_audience: str = ""
    admin_jwt_role_claim: str = "role"
    admin_jwt_group_claim: str = "group"
    metrics_require_key: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "text"
    demo: bool | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the TOML file."""
        del dotenv_settings, file_secret_settings
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        """From the environment: `a, b`, or JSON."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith(("[", "{")):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError("is no valid JSON") from None
        return [part.strip() for part in value.split(",") if part.strip()]

    @field_validator("currencies")
    @classmethod
    def _currencies(cls, value: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        Currencies.parse(value)  # MoneyError is a ValueError that names what is wrong
        return value

    @field_validator("upstream_url")
    @classmethod
    def _upstream_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an http(s) URL without query, e.g. https://api.openai.com")
        return value.rstrip("/").removesuffix("/v1")

    @field_validator("spool_fsync")
    @classmethod
    def _spool_fsync(cls, value: str) -> str:
        number = value.removesuffix("ms")
        if value not in {"always", "never"} and not (
            value.endswith("ms") and number.isdigit() and int(number) > 0
        ):
            raise ValueError('must be "always", "never" or a number of milliseconds such as "50ms"')
        return value

    @field_validator("admin_key")
    @classmethod
    def _admin_key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and len(value.get_secret_value()) < ADMIN_KEY_CHARS_MIN:
            raise ValueError(f"must have at least {ADMIN_KEY_CHARS_MIN} characters")
        return value

    @model_validator(mode="after")
    def _tls_pair(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together")
        return self

    @property
    def demo_mode(self) -> bool:
        """No upstream key and no upstream of one's own: answers come from the simulator."""
        if self.demo is not None:
            return self.demo
        own_upstream = self.upstream_url != "https://api.openai.com"
        return not self.openai_api_key.get_secret_value() and not own_upstream


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Read all settings. Raises SettingsError with one line that names the setting and what is wrong with it."""
    path = config or (Path(named) if (named := os.environ.get("PROXY_CONFIG")) else None)
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        if path is not None and not path.is_file():
            raise SettingsError(f"config file {path} does not exist")
        given |= _secrets_from_files(given)
        unknown = _unknown_environment()
        if unknown:
            raise SettingsError(f"unknown setting {unknown[0]} in the environment")
        loader = type(
            "Settings",
            (Settings,),
            {"model_config": SettingsConfigDict(**Settings.model_config | {"toml_file": path})},
        )
        loaded: Settings = loader(**given)
    except ValidationError as error:
        raise SettingsError(_explained(error, path)) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"config file {path}: {error}") from None
    return loaded


def _explained(error: ValidationError, path: Path | None) -> str:
    """One line: which setting, what is wrong with it, and how many more there are."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown setting {name} in {path}{more}"
    message = first["msg"].removeprefix("Value error, ")
    return f"setting {name}: {message}{more}" if name else f"{message}{more}"


def _secrets_from_files(given: dict[str, Any]) -> dict[str, str]:
    """`PROXY_ADMIN_KEY_FILE=/run/secrets/admin` stands for PROXY_ADMIN_KEY with that file's content."""
    found = {}
    for name in SECRETS:
        if name in given:
            continue
        variables = ["OPENAI_API_KEY_FILE"] if name == "openai_api_key" else []
        variables.append(f"PROXY_{name.upper()}_FILE")
        for variable in variables:
            if path := os.environ.get(variable):
                try:
                    found[name] = Path(path).read_text().strip()
                except OSError as error:
                    raise SettingsError(f"{variable}: can't read {path}: {error.strerror}") from None
    return found


def _unknown_environment() -> list[str]:
    """Names in the environment that look like ours and are no setting: most often a typing error."""
    known = {f"PROXY_{name.upper()}" for name in Settings.model_fields} | {"PROXY_CONFIG", A_USERS_KEY}
    known |= {f"PROXY_{name.upper()}_FILE" for name in SECRETS}
    return sorted(name for name in os.environ if name.startswith("PROXY_") and name not in known)
