"""Grafana's dashboards and Prometheus' rules ask only for what the proxy exposes, by labels that it has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from proxy.instruments import Counter, Histogram
from proxy.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = {
    path.name: yaml.safe_load(path.read_text())
    for path in sorted((DEPLOY / "prometheus").glob("*.rules.yml"))
}
NAME = re.compile(r"[a-z_:]*openai_proxy[a-z0-9_:]*")
SELECTED = re.compile(r"(openai_proxy_[a-z0-9_]+)\{([^}]*)\}")
GROUPED = re.compile(r"by \(([^)]*)\)")
OF_PROMETHEUS = {"instance", "job", "le"}


def exposed() -> dict[str, set[str]]:
    """Every series' name, as Prometheus stores it -> its labels."""
    found = {}
    for name, each in Metrics().instruments.items():
        labels = set(each.labels) | OF_PROMETHEUS
        suffixes = ("_total",) if isinstance(each, Counter) else ("",)
        if isinstance(each, Histogram):
            suffixes = ("_bucket", "_sum", "_count")
        found |= {name + suffix: labels for suffix in suffixes}
    return found


def rules() -> Iterator[dict]:
    for document in RULES.values():
        for group in document["groups"]:
            yield from group["rules"]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def panels(path: Path) -> list[dict]:
    return json.loads(path.read_text())["panels"]


def expressions() -> list[tuple[str, str]]:
    """(where, PromQL) of everything."""
    found = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]
    for path in BOARDS:
        for panel in panels(path):
            found += [(f"{path.stem}: {panel['title']}", each["expr"]) for each in panel.get("targets", ())]
    return found


def test_there_are_dashboards_and_rules():
    assert [path.name for path in BOARDS] == ["operations.json", "usage.json"]
    assert set(RULES) == {"alerts.rules.yml", "recording.rules.yml"}
    assert len(expressions()) > 60


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_what_is_asked_for_is_exposed(where, expression):
    known = exposed()
    names = set(NAME.findall(re.sub(r'"[^"]*"', '""', expression)))

    assert names or "up{" in expression, where
    for name in names:
        assert name in known or name in recorded(), f"{where}: {name} is neither exposed nor recorded"
    for name, selector in SELECTED.findall(expression):
        labels = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', selector)))
        assert labels <= known[name], f"{where}: {name} has no {labels - known[name]}"
    grouped = {
        label.strip() for group in GROUPED.findall(expression) for label in group.split(",") if label.strip()
    }
    of_names = set().union(OF_PROMETHEUS, *(known.get(name, set()) for name in names))
    assert grouped <= of_names, f"{where}: grouped by {grouped - of_names}"
    assert expression.count("(") == expression.count(")"), where


def test_alerts_say_what_is_wrong_and_how_urgent_it_is():
    alerts = [rule for rule in rules() if "alert" in rule]

    assert len({rule["alert"] for rule in alerts}) == len(alerts) >= 10
    for rule in alerts:
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]
        assert rule["annotations"]["description"].endswith("."), rule["alert"]


def test_what_an_alert_names_in_its_text_is_a_label_that_it_keeps():
    known = exposed()
    for rule in rules():
        if "alert" not in rule:
            continue
        named = set(re.findall(r"\$labels\.([a-z_]+)", str(rule["annotations"])))
        summed = re.match(r"\s*sum by \(([^)]*)\)", rule["expr"])
        names = NAME.findall(rule["expr"])
        kept = (
            {each.strip() for each in summed[1].split(",")}
            if summed
            else OF_PROMETHEUS.union(*(known.get(name, set()) for name in names))
        )
        assert named <= kept, f"{rule['alert']}: {named - kept}"


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_panels_have_ids_of_their_own_and_do_not_overlap(path):
    shown = panels(path)
    assert len({panel["id"] for panel in shown}) == len(shown)
    taken: set[tuple[int, int]] = set()
    for panel in shown:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize(
    "path",
    [*sorted(DEPLOY.glob("grafana/provisioning/**/*.yaml")), DEPLOY / "prometheus" / "prometheus.yml"],
    ids=lambda path: path.name,
)
def test_the_other_files_are_read(path):
    document = yaml.safe_load(path.read_text())
    assert document
    for name in document.get("rule_files", ()):
        assert (path.parent / name).is_file()
