"""Each thing that can be done on the dashboard is done, and the API says that it was."""

from __future__ import annotations

import csv
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
from playwright.sync_api import expect

from tests.dashboard.conftest import Dashboard

TZ = "tz=Europe/Berlin"


def field(dashboard: Dashboard, label: str):
    return dashboard.dialog().get_by_label(re.compile(f"^{re.escape(label)}( \\(required\\))?$"))


def confirm(dashboard: Dashboard, name: str) -> None:
    dashboard.dialog().get_by_role("button", name=name, exact=True).click()
    expect(dashboard.dialog()).to_have_count(0)


def new_user(dashboard: Dashboard, name: str) -> dict:
    return dashboard.proxy.admin("POST", "/admin/users", {"name": name})


def test_a_user_without_a_name_is_shown_by_its_id(dashboard):
    page = dashboard.visit("/users")
    dashboard.press("New user")
    field(dashboard, "External id").fill("nameless-1")

    confirm(dashboard, "Create user")

    made = dashboard.api("/admin/users/nameless-1")
    dashboard.says(f"{made['id']} was created.")
    expect(page.get_by_role("heading", level=1)).to_have_text(made["id"])


def test_a_user_is_created_and_changed(dashboard):
    page = dashboard.visit("/users")
    dashboard.press("New user")
    field(dashboard, "Name").fill("Nora Vik")
    field(dashboard, "E-mail").fill("not an address")
    dashboard.press("Create user")
    expect(page.locator(".wrong", has_text="email")).to_be_visible()
    expect(field(dashboard, "E-mail")).to_be_focused()
    dashboard.noted(400)
    field(dashboard, "E-mail").fill("nora@example.com")
    field(dashboard, "Group").select_option(label="Marketing")
    field(dashboard, "Plan").select_option(label="Starter")
    field(dashboard, "Tags").fill("grade=9\nroom=12")

    confirm(dashboard, "Create user")

    dashboard.says("Nora Vik was created.")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nora Vik")
    made = dashboard.api("/admin/users/nora@example.com")
    assert (made["group_name"], made["plan_name"], made["tags"]) == (
        "Marketing",
        "Starter",
        {"grade": "9", "room": "12"},
    )
    expect(page.get_by_text("No key yet")).to_be_visible()

    dashboard.press("Change", exact=True)
    field(dashboard, "Name").fill("Nora Lund")
    dashboard.dialog().get_by_label("Active").uncheck()
    confirm(dashboard, "Save")

    dashboard.says("Saved.")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nora Lund")
    expect(page.get_by_text("deactivated")).to_be_visible()
    assert dashboard.api(f"/admin/users/{made['id']}")["active"] is False


def test_a_group_is_created_and_its_quotas_are_set(dashboard):
    page = dashboard.visit("/groups")
    dashboard.press("New group")
    field(dashboard, "Name").fill("School 12")
    confirm(dashboard, "Create group")
    dashboard.says("School 12 was created.")
    (made,) = dashboard.api("/admin/groups?search=School")["data"]

    page.get_by_role("link", name="School 12").click()
    expect(page.get_by_text("No quota binds")).to_be_visible()
    dashboard.press("Set quotas")
    dashboard.press("Add a quota")
    field(dashboard, "Limit").fill("twelve")
    dashboard.press("Save")
    expect(page.locator(".wrong", has_text="twelve")).to_be_visible()
    dashboard.noted(400)
    field(dashboard, "Limit").fill("12.50")
    confirm(dashboard, "Save")

    dashboard.says("Quotas are set.")
    (quota,) = dashboard.api(f"/admin/groups/{made['id']}/quotas")["data"]
    assert (quota["unit"], quota["window"], quota["limit"]) == ("cost", "month", "12.5")
    expect(page.get_by_role("meter", name="Group: $12.50 a month")).to_have_attribute("aria-valuenow", "0")


def test_a_key_is_issued_once_copied_used_rotated_and_revoked(open_page):
    dashboard = open_page(permissions=["clipboard-read", "clipboard-write"])
    user = new_user(dashboard, "Key holder")
    page = dashboard.visit(f"/users/{user['id']}")

    page.locator(".head").get_by_role("button", name="Issue key").click()
    field(dashboard, "Name").fill("laptop")
    dashboard.dialog().get_by_role("button", name="Issue key").click()
    shown = page.locator("[data-secret]")
    expect(shown).to_have_text(re.compile(r"^sk-proxy-\w{46}$"))
    key = shown.inner_text()
    dashboard.press("Copy", exact=True)
    expect(dashboard.dialog().get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == key
    dashboard.press("Done")
    dashboard.proxy.wait_for_key(key)
    assert key not in page.content()
    expect(page.locator("tbody", has_text="laptop").first).to_contain_text("live")

    page.get_by_role("button", name="Rotate laptop").click()
    dashboard.dialog().get_by_role("button", name="Rotate", exact=True).click()
    expect(shown).not_to_have_text(key)
    successor = shown.inner_text()
    dashboard.press("Done")
    dashboard.proxy.wait_for_key(successor)
    dashboard.proxy.wait_for_key(key, accepted=False)

    page.get_by_role("button", name="Revoke laptop").click()
    confirm(dashboard, "Revoke")
    dashboard.says("The key is revoked.")
    dashboard.proxy.wait_for_key(successor, accepted=False)
    keys = dashboard.api(f"/admin/users/{user['id']}/keys")["data"]
    assert all(each["revoked_at"] for each in keys)
    assert len(keys) == 2
    expect(page.locator("td .tag", has_text="revoked")).to_have_count(2)


def test_a_users_quota_is_set_raised_for_a_while_and_removed(dashboard):
    user = new_user(dashboard, "Quota holder")
    page = dashboard.visit(f"/users/{user['id']}")
    dashboard.press("Set quotas")
    dashboard.press("Add a quota")
    field(dashboard, "Counts").select_option("tokens")
    field(dashboard, "In").select_option("day")
    field(dashboard, "Limit").fill("200000")
    confirm(dashboard, "Save")
    dashboard.says("Quotas are set.")
    meter = page.get_by_role("meter", name="User: 200K tokens a day")
    expect(meter).to_be_visible()

    dashboard.press("Raise for a while")
    dashboard.press("Raise", exact=True)
    expect(page.get_by_text("Give a limit.")).to_be_visible()
    field(dashboard, "Limit in tokens").fill("500000")
    dashboard.press("Raise", exact=True)
    expect(page.get_by_text("a raise is temporary")).to_be_visible()
    dashboard.noted(400)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT12:00")
    field(dashboard, "Until").fill(tomorrow)
    confirm(dashboard, "Raise")

    dashboard.says("The limit is changed.")
    expect(page.get_by_text("raised until")).to_be_visible()
    (quota,) = dashboard.api(f"/admin/quotas?scope=user&scope_id={user['id']}")["data"]
    assert quota["raised_limit"] == "500000"
    expect(page.get_by_role("meter", name="User: 500K tokens a day")).to_be_visible()

    page.get_by_role("button", name="Remove this quota").click()
    confirm(dashboard, "Remove")
    dashboard.says("The quota is removed.")
    assert dashboard.api(f"/admin/quotas?scope=user&scope_id={user['id']}")["data"] == []


def test_a_plan_is_created_changed_and_removed(dashboard):
    page = dashboard.visit("/quotas")
    dashboard.press("New plan")
    field(dashboard, "Name").fill("Trial")
    dashboard.press("Add a quota")
    field(dashboard, "Limit").fill("1")
    confirm(dashboard, "Create plan")
    dashboard.says("The plan is created.")
    row = page.locator("tbody tr", has=page.get_by_role("link", name="Trial", exact=True))
    expect(row).to_contain_text("$1.00 a month")

    row.get_by_role("button", name="Change Trial").click()
    field(dashboard, "Limit").fill("2")
    confirm(dashboard, "Save")
    dashboard.says("Saved.")
    assert dashboard.api("/admin/plans/Trial")["quotas"][0]["limit"] == "2"

    page.get_by_role("link", name="Trial", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Trial")
    dashboard.press("Remove", exact=True)
    dashboard.dialog().get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Quotas and plans")
    expect(page.get_by_role("link", name="Trial", exact=True)).to_have_count(0)


def test_a_plan_that_somebody_is_on_can_not_be_removed_and_it_says_why(dashboard):
    page = dashboard.visit(f"/plans/{dashboard.api('/admin/plans/Starter')['id']}")
    dashboard.press("Remove", exact=True)

    dashboard.dialog().get_by_role("button", name="Remove", exact=True).click()

    expect(dashboard.dialog().get_by_role("alert")).to_contain_text("still on this plan")
    dashboard.noted(409)
    page.keyboard.press("Escape")


def test_a_quota_of_everyone_is_created(dashboard):
    page = dashboard.visit("/quotas")
    dashboard.press("New quota")
    field(dashboard, "Counts").select_option("requests")
    field(dashboard, "In").select_option("minute")
    field(dashboard, "Limit").fill("100000")
    field(dashboard, "Only for model").fill("gpt-5*")
    confirm(dashboard, "Create quota")

    dashboard.says("The quota is set.")
    row = page.locator("tbody tr", has_text="100K requests a minute for model gpt-5*")
    expect(row).to_contain_text("Everyone")
    row.get_by_role("button", name="Remove").click()
    confirm(dashboard, "Remove")
    dashboard.says("The quota is removed.")
    expect(row).to_have_count(0)


def test_a_price_is_set_and_removed(dashboard):
    page = dashboard.visit("/prices")
    dashboard.press("Set a price")
    field(dashboard, "Model").fill("llama-4-scout-internal")
    field(dashboard, "Input, US dollars per million tokens").fill("cheap")
    dashboard.press("Set price")
    expect(dashboard.dialog().get_by_text("cheap")).to_be_visible()
    dashboard.noted(400)
    field(dashboard, "Input, US dollars per million tokens").fill("0.10")
    field(dashboard, "Output, US dollars per million tokens").fill("0.40")
    confirm(dashboard, "Set price")

    dashboard.says("The price is set.")
    (price,) = dashboard.api("/admin/prices?model=llama*")["data"]
    assert price["rates"] == {"input_tokens": "0.1", "output_tokens": "0.4"}
    row = page.locator("tbody tr", has=page.get_by_role("button", name="Remove"))
    expect(row).to_contain_text("Output: 0.4")
    row.get_by_role("button", name="Remove").click()
    confirm(dashboard, "Remove")
    dashboard.says("The price is removed.")
    expect(page.get_by_text("No prices set here")).to_be_visible()


def test_an_admin_key_is_issued_works_and_is_revoked(dashboard):
    page = dashboard.visit("/admin-keys")
    dashboard.press("New admin key")
    field(dashboard, "Name").fill("finance report")
    dashboard.press("Issue admin key")
    expect(page.locator("[data-secret]")).to_have_text(re.compile("^sk-admin-"))
    key = page.locator("[data-secret]").inner_text()
    dashboard.press("Done")
    assert dashboard.proxy.request("GET", "/admin/users", key=key).status == 200
    assert dashboard.proxy.request("POST", "/admin/users", {"name": "X"}, key=key).status == 403

    page.get_by_role("button", name="Revoke finance report").click()
    confirm(dashboard, "Revoke")

    dashboard.says("The admin key is revoked.")
    assert dashboard.proxy.request("GET", "/admin/users", key=key).status == 401


def test_the_audit_log_tells_who_did_what(dashboard):
    user = new_user(dashboard, "Watched")
    page = dashboard.visit(f"/audit?subject={user['id']}")

    row = page.locator("tbody tr", has_text="user.create")
    expect(row).to_contain_text("admin_key:admin_")
    row.get_by_text("Details").click()
    expect(row.locator("pre")).to_contain_text('"name": "Watched"')
    page.get_by_role("button", name="Remove filter subject").click()
    dashboard.settled()
    page.get_by_label("Kind of action").select_option(label="Groups")
    expect(page).to_have_url(re.compile(r"action=group\."))
    dashboard.settled()
    actions = {text.split(".")[0] for text in page.locator("tbody code").all_inner_texts()}
    assert actions <= {"group", "groups"}


def test_exports_download_what_the_page_shows(dashboard, tmp_path):
    page = dashboard.visit("/requests?range=7&operation=evaluate")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    download.value.save_as(tmp_path / "records.csv")
    rows = list(csv.DictReader((tmp_path / "records.csv").read_text().splitlines()))
    asked = dashboard.api(f"/admin/stats/overview?days=7&operation=evaluate&{TZ}")
    assert len(rows) == asked["sums"]["requests"] > 0
    assert {row["operation"] for row in rows} == {"evaluate"}
    assert re.fullmatch(r"records-\d{4}-\d\d-\d\d\.csv", download.value.suggested_filename)

    with page.expect_download() as download:
        page.get_by_role("link", name="JSON lines").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == len(rows)
    assert json.loads(lines[0])["operation"] == "evaluate"

    dashboard.visit("/users?range=7")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export").click()
    text = Path(download.value.path()).read_text()
    names = {row["user_name"] for row in csv.DictReader(text.splitlines())}
    assert names >= {row["name"] for row in dashboard.api(f"/admin/stats/users?days=7&{TZ}")["data"]}


def test_a_new_request_appears_by_itself_and_the_view_can_be_held(dashboard):
    person = dashboard.proxy.person("Live caller")
    page = dashboard.visit()
    live = page.locator("section", has=page.get_by_role("heading", name="Live requests"))
    expect(live.get_by_text("Live", exact=True)).to_be_visible()

    def ask(operation: str) -> str:
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
        reply = dashboard.proxy.request(
            "POST", "/v1/chat/completions", body, person.key, x_usage_operation=operation
        )
        assert reply.status == 200
        return reply.headers["x-proxy-request-id"]

    made = ask("live-one")
    row = live.locator(f'tr[data-row="{made}"]')
    expect(row).to_contain_text("Live caller")
    expect(row).to_contain_text("live-one")

    live.get_by_role("button", name="Pause").click()
    expect(live.get_by_text("Paused")).to_be_visible()
    held = ask("live-two")
    dashboard.proxy.request("GET", f"/me/requests/{held}", key=person.key)
    expect(live.locator(f'tr[data-row="{held}"]')).to_have_count(0)
    live.get_by_role("button", name="Resume").click()
    third = ask("live-three")
    expect(live.locator(f'tr[data-row="{third}"]')).to_be_visible()


# signing in and out


def sign_in(dashboard: Dashboard, credential: str) -> None:
    dashboard.page.get_by_label("Key or token").fill(credential)
    dashboard.press("Sign in")


def test_one_signs_in_with_an_admin_key_and_out_again(open_page):
    dashboard = open_page(None)
    page = dashboard.page
    page.goto(f"{dashboard.proxy.url}/dashboard/users?range=7")
    expect(page.get_by_label("Key or token")).to_be_focused()
    sign_in(dashboard, "sk-admin-of-nobody-at-all")
    expect(page.get_by_role("alert")).to_have_text("This key or token is unknown, expired or revoked.")
    dashboard.noted(401)

    from tests.proxy_process import ADMIN_KEY

    sign_in(dashboard, ADMIN_KEY)
    dashboard.settled()
    expect(page.get_by_role("heading", level=1)).to_have_text("Users")
    expect(page.get_by_label("Time range")).to_have_value("7")
    assert ADMIN_KEY not in json.dumps(page.context.storage_state()), "the browser keeps no key"

    dashboard.press("Sign out")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert page.context.cookies() == []


def test_a_user_sees_own_usage_and_nothing_of_others(open_page):
    dashboard = open_page(None)
    user = dashboard.api("/admin/users?search=tanaka")["data"][0]
    key = dashboard.proxy.admin("POST", f"/admin/users/{user['id']}/keys", {"name": "browser"})["key"]
    page = dashboard.page
    page.goto(f"{dashboard.proxy.url}/dashboard")
    sign_in(dashboard, key)
    dashboard.settled()

    expect(page.get_by_role("heading", level=1)).to_have_text("My usage")
    mine = dashboard.proxy.request("GET", f"/me/usage?days=30&{TZ}", key=key).body["sums"]
    cost = page.locator(".tile", has_text="Cost").locator(".value").first
    expect(cost).to_have_text(f"${float(mine['cost_usd']):,.2f}")
    quotas = dashboard.proxy.request("GET", "/me", key=key).body["quotas"]
    expect(page.get_by_role("meter")).to_have_count(len(quotas))
    expect(page.get_by_role("navigation", name="Main").get_by_role("link")).to_have_count(2)
    assert "Haddad" not in page.content()
    page.get_by_role("link", name="My requests").click()
    expect(page.locator("[data-record]")).to_have_count(50)
    page.goto(f"{dashboard.proxy.url}/dashboard/users")
    expect(page.get_by_role("heading", level=1)).to_have_text("Not found")


def test_a_token_that_may_only_read_gets_no_buttons_that_change(open_page):
    group = open_page().api("/admin/groups?search=Marketing")["data"][0]
    claims = {"sub": "bea", "name": "Bea", "role": "read", "group": group["id"], "exp": time.time() + 600}
    dashboard = open_page(jwt.encode(claims, "a secret of at least thirty-two bytes", "HS256"))
    page = dashboard.visit("/users")

    expect(page.get_by_role("button", name="New user")).to_have_count(0)
    expect(page.get_by_text("may read, Marketing")).to_be_visible()
    expect(page.get_by_role("link", name="Audit log")).to_have_count(0)
    expect(page.locator("tbody tr")).to_have_count(5)
    page.locator("tbody a").first.click()
    dashboard.settled()
    expect(page.get_by_role("button", name="Issue key")).to_have_count(0)


def test_a_session_that_is_over_asks_to_sign_in_again(open_page):
    dashboard = open_page()
    page = dashboard.visit()
    page.context.clear_cookies()

    page.get_by_role("link", name="Models", exact=True).click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    dashboard.says("You were signed out.")
    dashboard.noted(*[401] * len(dashboard.complaints))


def test_amounts_are_shown_in_another_currency_where_the_api_gives_them(open_page):
    dashboard = open_page()

    def with_euros(value):
        if isinstance(value, list):
            return [with_euros(each) for each in value]
        if not isinstance(value, dict):
            return value
        more = {
            name.replace("_usd", "_eur"): str(float(amount) / 2)
            for name, amount in value.items()
            if name.endswith("cost_usd") and amount is not None
        }
        return {name: with_euros(each) for name, each in value.items()} | more

    def answered(route):
        route.fulfill(json=with_euros(route.fetch().json()))

    dashboard.page.route("**/admin/stats/b*", answered)
    page = dashboard.visit()
    sums = dashboard.api(f"/admin/stats/overview?{TZ}")["sums"]
    page.get_by_label("Currency").select_option("EUR")

    dashboard.settled()

    expect(page).to_have_url(re.compile("currency=EUR"))
    shown = page.locator(".tile", has_text="Cost").locator(".value").first
    expect(shown).to_have_text(f"€{float(sums['cost_usd']) / 2:,.2f}")
    expect(page.locator("canvas").first).to_have_attribute("aria-label", re.compile("€"))
    page.get_by_label("Currency").select_option("USD")
    expect(shown).to_have_text(f"${float(sums['cost_usd']):,.2f}")
    dashboard.settled()
    page.unroute_all(behavior="ignoreErrors")


def test_no_currency_is_offered_that_the_amounts_are_not_in(dashboard):
    page = dashboard.visit("?currency=GBP")

    expect(page.locator(".tile", has_text="Cost").locator(".value").first).to_have_text(re.compile(r"^\$"))
    expect(page.get_by_label("Currency").locator("option", has_text="GBP")).to_have_count(0)
