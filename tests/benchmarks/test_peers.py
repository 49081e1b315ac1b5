"""Peers, without a network: what they are configured with, when one is skipped, and how the comparison is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks import peers_launch, peers_run
from tests.benchmarks.chart import Bar, Panel, drawn
from tests.benchmarks.load import Job
from tests.benchmarks.measure import STREAM, job
from tests.benchmarks.peers import PEERS, Peer, chosen
from tests.benchmarks.peers_install import Node, UnavailableError, Venv, installed, reason, run
from tests.benchmarks.peers_launch import Launch, Setting
from tests.benchmarks.peers_report import Row, Skipped, panels, summary, table
from tests.benchmarks.run import PEERS_MARKERS, notes, write
from tests.benchmarks.targets import Target
from tests.benchmarks.upstream import completion, events
from tests.processes import process_tree

SVG = "{http://www.w3.org/2000/svg}"
NGINX = Row("nginx", 20.0, 15.0, (0.1, 0.2), 300.0, 15.0, "forwards")
OWN = Row("openai-proxy", 70.04, 18.0, (0.5, 1.25), 300.0, 150.4, "everything", postgres_us=40.0)
SLOW = Row("Slow 1.0", 12_345.6, 800.0, (10.0, 50.0), 20.0, 400.0, "little", errors=3)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    home, place = tmp_path / "home", tmp_path / "place"
    for each in (home, place):
        each.mkdir()
    return Setting(home, place, 4001, "http://127.0.0.1:4000", "postgresql://u@/d?host=/tmp")


def file(launch: Launch, name: str) -> Path:
    return next(Path(word) for word in launch.command if word.endswith(name))


# Configuration


def test_envoy_listens_on_the_port_and_forwards_to_the_upstream_with_one_thread(setting: Setting):
    binary = setting.home / "lib" / "python3.11" / "site-packages" / "envoy" / "_bin" / "envoy"
    binary.parent.mkdir(parents=True)
    binary.touch()
    launch = peers_launch.envoy(setting)
    assert launch.command[0] == str(binary)
    assert launch.command[launch.command.index("--concurrency") + 1] == "1"
    static = json.loads(file(launch, "envoy.json").read_text())["static_resources"]
    listener, cluster = static["listeners"][0], static["clusters"][0]
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 4001}
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 4000}
    connections = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (route,) = connections["route_config"]["virtual_hosts"][0]["routes"]
    assert route["route"] == {"cluster": cluster["name"], "timeout": "0s"}
    assert "access_log" not in connections


def test_tensorzero_has_the_model_under_its_name_and_no_database(setting: Setting):
    launch = peers_launch.tensorzero(setting)
    config = tomllib.loads(file(launch, "tensorzero.toml").read_text())
    provider = config["models"]["gpt-4o-mini"]["providers"]["openai"]
    assert provider["api_base"] == "http://127.0.0.1:4000/v1/"
    assert config["gateway"] == {"observability": {"enabled": False}}
    assert launch.model == "tensorzero::model_name::gpt-4o-mini"
    compile(file(launch, "start.py").read_text(), "start.py", "exec")


def test_portkey_is_told_its_upstream_with_each_request_and_stays_on_this_machine(setting: Setting):
    launch = peers_launch.portkey(setting)
    asks = job(Target("Portkey", "http://127.0.0.1:4001", 1, headers=launch.headers))
    assert asks.headers()["x-portkey-custom-host"] == "http://127.0.0.1:4000/v1"
    assert asks.headers()["x-portkey-provider"] == "openai"
    assert "--port=4001" in launch.command
    assert 'host: "127.0.0.1"' in file(launch, "local.cjs").read_text()


@pytest.mark.parametrize("database", [False, True])
def test_litellm_issues_keys_only_with_a_database(setting: Setting, database: bool):
    url = setting.database_url if database else None
    launch = peers_launch.litellm(Setting(setting.home, setting.place, 4001, setting.upstream, url))
    config = json.loads(file(launch, "litellm.json").read_text())
    (model,) = config["model_list"]
    assert model["model_name"] == "gpt-4o-mini"
    assert model["litellm_params"]["api_base"] == "http://127.0.0.1:4000/v1"
    assert (launch.issue is not None, dict(launch.environment).get("DATABASE_URL")) == (database, url)
    assert config["general_settings"].get("database_url") == url


def test_any_llm_has_a_provider_a_price_and_a_database(setting: Setting):
    launch = peers_launch.any_llm(setting)
    config = json.loads(file(launch, "any-llm.json").read_text())
    assert config["host"] == "127.0.0.1"
    assert config["database_url"] == "postgresql+psycopg2://u@/d?host=/tmp"
    assert config["providers"]["openai"]["api_base"] == "http://127.0.0.1:4000/v1"
    assert launch.model in config["pricing"]


def test_a_peer_is_asked_for_the_model_under_the_name_it_has_there():
    asks = job(Target("any", "http://127.0.0.1:1/openai", 1, "k", model="openai:gpt-4o-mini"), STREAM)
    assert asks.url.startswith("http://127.0.0.1:1/openai/v1/chat/completions?")
    assert json.loads(asks.body) == json.loads(STREAM.body) | {"model": "openai:gpt-4o-mini"}
    assert job(Target("plain", "http://127.0.0.1:1", 1, "k")).headers() == Job("", b"", "k").headers()


def test_every_version_is_pinned():
    for peer in PEERS:
        if isinstance(peer.install, Node):
            pairs = (*peer.install.packages, *peer.install.instead)
            assert all(version[0].isdigit() for _, version in pairs), peer
        else:
            assert all("==" in package for package in peer.install.packages), peer


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ("none", []),
        ("litellm,envoy", ["envoy", "litellm"]),
        ("all", ["envoy", "tensorzero", "portkey", "litellm", "litellm-db", "any-llm"]),
    ],
)
def test_peers_are_chosen_by_name(names, keys):
    assert [peer.key for peer in chosen(names)] == keys


def test_an_unknown_peer_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no such peer: kong; there are envoy, tensorzero"):
        chosen("envoy,kong")


# Skipping


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Collecting x\nERROR: No matching distribution found for x==9\n", "ERROR: No matching distribution found for x==9"),
        ("npm error code E404\nnpm error 404 x@9 is not there\n\nsee the log", "npm error 404 x@9 is not there"),
        ("Error: request to https://a.example/b?c failed: ENOTFOUND a.example\n", "Error: request to … failed: ENOTFOUND a.example"),
        ("\x1b[31mFileNotFoundError: '/home/me/.bench/x/y.json'\x1b[0m", "FileNotFoundError: 'y.json'"),
        ("Traceback ...\ndb.exc.ProgrammingError: no table\n\n[SQL: x]\n(see the manual)", "db.exc.ProgrammingError: no table"),
        ("", "it said nothing"),
        ("x" * 1000, "x" * 200),
    ],
)  # fmt: skip
def test_a_reason_is_the_line_that_tells_most_and_nothing_of_this_machine(said, told):
    assert reason(said) == told


def test_a_step_that_fails_gives_its_last_words(tmp_path: Path):
    with pytest.raises(UnavailableError, match="failed: ValueError: no wheel"):
        run([sys.executable, "-c", "raise ValueError('no wheel')"], tmp_path)


def test_a_tool_that_is_missing_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UnavailableError, match="No such file"):
        run(["no-such-tool", "install"], tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="node and npm are not installed"):
        installed(tmp_path / "x", Node((("x", "1"),)))


class Step(Venv):
    """Installed by one line of Python."""

    def commands(self, home: Path) -> list[list[str]]:
        return [[sys.executable, "-c", *self.packages]]


def test_what_is_there_is_not_installed_again_and_another_version_replaces_it(tmp_path: Path):
    home, first = tmp_path / "x", Step(("open('one', 'a').write('1')",))
    installed(home, first)
    installed(home, first)
    assert (home / "one").read_text() == "1"
    installed(home, Step(("open('two', 'a').write('2')",)))
    assert sorted(path.name for path in home.iterdir()) == ["installed.json", "two"]


def test_an_installation_that_failed_is_tried_again(tmp_path: Path):
    broken = Step(("open('half', 'x'); raise SystemExit('no disk')",))
    for _ in range(2):
        with pytest.raises(UnavailableError, match="failed: no disk"):
            installed(tmp_path / "x", broken)


def answering(code: str, *, start_s: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Why a peer that runs this code is skipped."""
    monkeypatch.setattr(peers_run, "START_S", start_s)
    monkeypatch.setattr(peers_run, "HOME", tmp_path)
    monkeypatch.setattr(peers_run.peers_install, "installed", lambda home, what: None)
    peer = Peer("x", "X 1", Venv(()), lambda setting: Launch((sys.executable, "-c", code)), "")
    nobody = Target("", "", None)
    with pytest.raises(UnavailableError) as why, peers_run.started(peer, nobody, tmp_path, nobody):
        pass
    return str(why.value)


def test_a_peer_that_ends_is_skipped_with_its_last_words(monkeypatch, tmp_path):
    why = answering("raise SystemExit('no config')", start_s=30, monkeypatch=monkeypatch, tmp_path=tmp_path)
    assert why == "it ended with 1: no config"


def test_a_peer_that_never_answers_is_skipped_and_stopped(monkeypatch, tmp_path):
    why = answering("import time; time.sleep(60)", start_s=1, monkeypatch=monkeypatch, tmp_path=tmp_path)
    assert why.startswith("no right answer within 1 s; the last: ConnectionRefusedError")
    assert not [
        pid for pid in process_tree(os.getpid())[1:] if Path(f"/proc/{pid}/cwd").readlink() == tmp_path / "x"
    ]


# Is what it answers right?

ANSWER = completion().partition(b"\r\n\r\n")[2]
LINES = b"".join(piece.partition(b"\r\n")[2].removesuffix(b"\r\n") for piece in events(100, usage=True)[:-1])


def test_the_upstreams_own_answer_and_stream_are_right():
    assert peers_run.answer_wrong(200, ANSWER) == ""
    assert peers_run.stream_wrong(200, LINES) == ""


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, ANSWER),
        (200, ANSWER.replace(b"xxx", b"", 1)),
        (200, ANSWER.replace(b'"total_tokens":29', b'"total_tokens":0')),
        (200, b'{"error": {"message": "no"}}'),
        (200, b"<html>"),
        (200, b"[]"),
    ],
)
def test_another_answer_is_wrong(status, body):
    assert peers_run.answer_wrong(status, body).startswith(str(status))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        LINES.replace(b"data: [DONE]", b""),
        LINES.replace(b" tok50", b""),
        LINES.replace(b" tok50", b" tok51"),
        b'data: {"error": "no"}\n\n' + LINES,
        b"data: nonsense\n\n",
    ],
)
def test_a_stream_that_lacks_a_piece_or_its_end_is_wrong(body):
    assert peers_run.stream_wrong(200, body).startswith("stream: 200")


# The report


def test_the_table_is_sorted_by_cost_and_says_what_is_missing():
    lines = table([SLOW, Skipped("Other 2.0", "npm is not installed"), OWN, NGINX]).splitlines()
    assert lines[0].startswith(
        "| one worker each | CPU, µs per request | × nginx | CPU, µs per chunk | × nginx |"
    )
    assert lines[1:] == [
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
        "| nginx | 20.0 | 1.0 | 15.0 | 1.0 | 0.10 | 0.20 | 300 | 15 | forwards |",
        "| **openai-proxy** | 70.0 | 3.5 | 18.0 | 1.2 | 0.50 | 1.25 | 300 | 150 | everything. Postgres beside it: 40.0 µs per request |",
        "| Slow 1.0 | 12,346 | 617.3 | 800 | 53.3 | 10.00 | 50.00 | 20 | 400 | little. **3 requests failed** |",
        "",
        "Not measured:",
        "",
        "- Other 2.0: npm is not installed",
    ]


def test_without_nginx_there_are_no_ratios():
    assert "| 70.0 |  | 18.0 |  |" in table([OWN])


def test_the_summary_has_one_line_for_requests_and_one_for_chunks():
    assert summary([SLOW, OWN, NGINX, Skipped("Other 2.0", "no")]) == (
        "CPU per request, µs: nginx 20.0; **openai-proxy** 70.0; Slow 12,346.\\\n"
        "CPU per streamed chunk, µs: nginx 15.0; **openai-proxy** 18.0; Slow 800."
    )


def test_each_section_goes_into_the_files_that_have_its_markers(tmp_path: Path):
    begin, end = PEERS_MARKERS
    with_it, without = tmp_path / "a.md", tmp_path / "b.md"
    with_it.write_text(f"a\n{begin}\nold\n{end}\nb\n")
    without.write_text("nothing\n")
    write([with_it, without], {PEERS_MARKERS: "new\n"})
    assert with_it.read_text() == f"a\n{begin}\nnew\n{end}\nb\n"
    assert without.read_text() == "nothing\n"


def widths(svg: str) -> list[float]:
    bars = [each for each in ET.fromstring(svg).iter(f"{SVG}rect") if "bar" in each.get("class", "")]
    return [float(each.get("width", "")) for each in bars]


def test_the_charts_bars_are_logarithmic_and_share_one_scale():
    two = Panel("a, µs", (Bar("x", 10.0), Bar("y", 100.0, own=True)))
    svg = drawn("Cost", ["here", "now"], [two, Panel("b, µs", (Bar("z", 10_000.0),))])
    least, decade, most = widths(svg)
    assert least == 1.0
    assert most == pytest.approx(3 * decade, abs=0.2)
    root = ET.fromstring(svg)
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert texts[:3] == ["Cost", "here", "now"]
    assert [each for each in texts if each in {"x", "y", "z"}] == ["x", "y", "z"]
    assert texts.count("10,000") == 3, "a tick in each panel, and the value"
    assert float(root.get("width", "")) >= max(float(each.get("x", "0")) for each in root.iter(f"{SVG}text"))


def test_the_chart_shows_each_measured_row_once_per_panel_and_marks_ours():
    request, chunk = panels([SLOW, OWN, NGINX, Skipped("Other 2.0", "no")])
    assert [(bar.name, bar.value, bar.own) for bar in request.bars] == [
        ("nginx", 20.0, False),
        ("openai-proxy", 70.04, True),
        ("Slow 1.0", 12_345.6, False),
    ]
    assert [bar.value for bar in chunk.bars] == [15.0, 18.0, 800.0]


def test_the_chart_says_where_it_was_measured_and_whether_the_machine_was_busy():
    quiet = (
        "2026-11-22, commit abc, Processor, Python 3.11.7, aiohttp 3. Load average of the machine before: 0.1"
    )
    assert notes(quiet)[1] == "2026-11-22, commit abc, Processor"
    busy = notes(f"{quiet}, so that every figure is too high.")[1]
    assert busy == "2026-11-22, commit abc, Processor. The machine was busy: all is too high."


def test_names_in_the_chart_are_escaped():
    root = ET.fromstring(drawn("<b>", ["&"], [Panel("p", (Bar("<i>", 1.0),))]))
    assert [each.text for each in root.iter(f"{SVG}text")][:2] == ["<b>", "&"]
    assert "<i>" in {each.text for each in root.iter(f"{SVG}text")}


def test_the_benchmarks_own_directory_is_known_to_git_and_to_the_image():
    root = Path(__file__).parents[2]
    ran = subprocess.run(["git", "check-ignore", "-q", ".bench/envoy/bin"], cwd=root, check=False)
    assert ran.returncode == 0
    assert ".bench" in (root / ".dockerignore").read_text().split()
