"""Settings: where they come from, what wins, and one clear line about what is wrong. And the example that shows them all."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest

from proxy import settings
from proxy.settings import SECRETS, Settings, SettingsError, load

EXAMPLE = Path(__file__).parents[1] / "config.example.toml"
NOT_THE_DEFAULT = {
    "openai_api_key", "upstream_ca_file", "upstream_proxy", "upstream_no_proxy", "tls_cert_file", "tls_key_file",
    "trusted_proxies", "rollup_tags", "database_url", "database_listen_url", "admin_key", "admin_cors_origins",
    "admin_jwt_secret", "admin_jwks_url", "admin_jwt_issuer", "admin_jwt_audience", "demo", "currencies", "prices",
    "upstreams",
}  # fmt: skip
"""Settings without a default worth showing; the example shows what a value looks like."""


def wrong(**given: object) -> str:
    with pytest.raises(SettingsError) as raised:
        load(**given)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def uncommented() -> str:
    """The example with every setting switched on."""
    return re.sub(r"^#(?=[\w\[\"])", "", EXAMPLE.read_text(), flags=re.MULTILINE)


def test_the_example_as_it_is_changes_nothing():
    assert load(EXAMPLE).model_dump() == load().model_dump()


def test_the_example_shows_every_setting_and_its_default(tmp_path: Path):
    path = tmp_path / "config.toml"
    path.write_text(uncommented())
    shown = tomllib.loads(path.read_text())
    assert set(shown) == set(Settings.model_fields)
    loaded, default = load(path), load()
    changed = {name for name in Settings.model_fields if getattr(loaded, name) != getattr(default, name)}
    assert changed == NOT_THE_DEFAULT


def test_the_example_says_why_above_each_setting():
    lines = EXAMPLE.read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"#[\w\[]", line):
            assert above.startswith("#"), f"no comment above {line}"


def test_the_environment_wins_over_the_file_and_arguments_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "config.toml"
    path.write_text('port = 1\nworkers = 2\nlog_level = "debug"\n')
    monkeypatch.setenv("PROXY_PORT", "3")
    monkeypatch.setenv("PROXY_WORKERS", "4")
    loaded = load(path, workers=5)
    assert (loaded.port, loaded.workers, loaded.log_level) == (3, 5, "debug")


def test_the_file_may_be_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "config.toml"
    path.write_text("port = 1\n")
    monkeypatch.setenv("PROXY_CONFIG", str(path))
    assert load().port == 1


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "PROXY_OPENAI_API_KEY"])
def test_the_upstream_key_has_openais_own_name(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(name, "sk-upstream")
    assert load().openai_api_key.get_secret_value() == "sk-upstream"


@pytest.mark.parametrize("name", SECRETS)
def test_each_secret_can_lie_in_a_file_and_is_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    secret = tmp_path / "secret"
    secret.write_text("  a-secret-of-some-length-0123456789\n")
    variable = "OPENAI_API_KEY_FILE" if name == "openai_api_key" else f"PROXY_{name.upper()}_FILE"
    monkeypatch.setenv(variable, str(secret))
    loaded = load()
    assert getattr(loaded, name).get_secret_value() == "a-secret-of-some-length-0123456789"
    assert "a-secret" not in repr(loaded)
    monkeypatch.setenv(variable, str(tmp_path / "none"))
    assert wrong() == f"{variable}: can't read {tmp_path}/none: No such file or directory"


def test_every_secret_type_can_lie_in_a_file():
    hidden = {name for name, field in Settings.model_fields.items() if field.annotation is settings.SecretStr}
    assert hidden == set(SECRETS)


def test_lists_come_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROXY_CORS_ORIGINS", "https://a.example, https://b.example,")
    monkeypatch.setenv("PROXY_TRUSTED_PROXIES", '["10.0.0.0/8"]')
    monkeypatch.setenv("PROXY_CURRENCIES", '{"BRL": {"2026-01-01": "5.40"}}')
    loaded = load()
    assert loaded.cors_origins == ("https://a.example", "https://b.example")
    assert loaded.trusted_proxies == ("10.0.0.0/8",)
    assert loaded.currencies == {"BRL": {"2026-01-01": "5.40"}}
    monkeypatch.setenv("PROXY_UPSTREAMS", "[{")
    assert wrong() == "setting upstreams: is no valid JSON"


def test_every_setting_of_several_values_reads_them_from_the_environment():
    several = {
        name
        for name, field in Settings.model_fields.items()
        if re.match(r"(tuple|dict)\[", str(field.annotation))
    }
    assert several == set(settings.LISTS)


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch):
    for name in ("PROXY_PORT", "PROXY_TLS_CERT_FILE", "HTTPS_PROXY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "")
    assert load().port == 8080
    assert load().tls_cert_file is None
    assert load().upstream_proxy is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"PROXY_PORT": "http"},
            "setting port: Input should be a valid integer, unable to parse string as an integer",
        ),
        ({"PROXY_PROT": "1"}, "unknown setting PROXY_PROT in the environment"),
        (
            {"PROXY_UPSTREAM_URL": "ftp://x"},
            "setting upstream_url: must be an http(s) URL without query, e.g. https://api.openai.com",
        ),
        (
            {"PROXY_SPOOL_FSYNC": "50"},
            'setting spool_fsync: must be "always", "never" or a number of milliseconds such as "50ms"',
        ),
        ({"PROXY_ADMIN_KEY": "short"}, "setting admin_key: must have at least 16 characters"),
        ({"PROXY_TLS_KEY_FILE": "x"}, "tls_cert_file and tls_key_file belong together"),
        (
            {"PROXY_WORKERS": "0", "PROXY_PORT": "-1"},
            "setting port: Input should be greater than or equal to 0 (and 1 more)",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wrong() == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("prot = 1\n", "unknown setting prot in {path}"),
        ("port = \n", "config file {path}: Invalid value (at line 1, column 8)"),
        (
            '[[upstreams]]\nname = "a"\nurl = "https://a"\nmodels = []\n',
            "setting upstreams.0.models: Tuple should ",
        ),
        ('[currencies.USD]\n2026-01-01 = "1"\n', "setting currencies: 'USD' is no other currency's code"),
    ],
)
def test_a_wrong_file_is_one_line_too(tmp_path: Path, content: str, expected: str):
    path = tmp_path / "config.toml"
    path.write_text(content)
    assert wrong(config=path).startswith(expected.format(path=path))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com/v1/", "https://api.openai.com"),
        ("https://eu.api.openai.com", "https://eu.api.openai.com"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api"),
    ],
)
def test_the_upstream_url_may_end_in_v1(url: str, expected: str):
    assert load(upstream_url=url).upstream_url == expected


def test_demo_mode_is_for_those_who_have_no_upstream():
    assert load().demo_mode
    assert not load(openai_api_key="sk-x").demo_mode
    assert not load(upstream_url="http://127.0.0.1:9").demo_mode
    assert load(openai_api_key="sk-x", demo=True).demo_mode
    assert not load(demo=False).demo_mode


def test_the_variable_in_which_people_keep_their_own_key_is_no_typing_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROXY_KEY", "sk-proxy-x")
    assert load().port == 8080
