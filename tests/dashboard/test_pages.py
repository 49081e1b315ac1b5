"""Each page shows what the API says, in the reader's own way of writing numbers, light and dark, wide and narrow."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import PHONE, Dashboard

TZ = "tz=Europe/Berlin"
PAGES = (
    "", "/users", "/groups", "/models", "/endpoints", "/operations", "/requests", "/requests?view=live", "/errors", "/keys",
    "/quotas", "/prices", "/admin-keys", "/audit",
)  # fmt: skip

TOO_WIDE = """() => [...document.querySelectorAll("body *")]
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1 && !each.closest(".scroll, .unseen, svg, canvas"))
    .map(each => each.outerHTML.slice(0, 120))"""


def tile(dashboard: Dashboard, label: str):
    return dashboard.page.locator(
        ".tile", has=dashboard.page.locator("dt", has_text=re.compile(f"^{label}$"))
    )


def usd(text: str | float) -> str:
    """As the dashboard writes dollars in English: cents, and two significant digits of what is smaller."""
    value = float(text)
    if 0 < value < 0.00001:
        return "< $0.00001"
    if value == 0 or value >= 0.0995:
        return f"${value:,.2f}"
    if value >= 0.00995:
        return f"${value:.3f}".removesuffix("0")
    return f"${float(f'{value:.2g}'):.10f}".rstrip("0")


def test_the_overview_shows_the_sums_of_the_period_and_of_today_the_month_and_ever(dashboard):
    dashboard.visit()
    seen = dashboard.api(f"/admin/stats/overview?{TZ}")
    ever = dashboard.api("/admin/stats")

    expect(tile(dashboard, "Cost").locator(".value")).to_have_text(usd(seen["sums"]["cost_usd"]))
    requests = tile(dashboard, "Requests").locator(".value")
    expect(requests).to_have_attribute("title", f"{seen['sums']['requests']:,}")
    expect(tile(dashboard, "Tokens").locator(".value")).to_have_attribute(
        "title", f"{seen['sums']['total_tokens']:,}"
    )
    expect(tile(dashboard, "Active users").locator(".value")).to_have_text(str(seen["users"]["active"]))
    expect(tile(dashboard, "Errors").locator(".value")).to_have_text(f"{seen['sums']['errors']:,}")
    expect(tile(dashboard, "Cost").locator(".ever")).to_have_text(
        f"Today, UTC{usd(ever['today']['cost_usd'])}This month, UTC{usd(ever['month']['cost_usd'])}All time{usd(ever['overall']['cost_usd'])}"
    )
    change = float(seen["sums"]["cost_usd"]) / float(seen["before"]["cost_usd"]) - 1
    direction = "up" if change > 0 else "down"
    expect(tile(dashboard, "Cost").locator(".delta")).to_contain_text(direction)


def test_the_overview_ranks_users_models_and_operations_and_shows_where_the_month_leads(dashboard):
    page = dashboard.visit()

    for title, path in (
        ("Top users", "top/users"),
        ("Top models", "models"),
        ("Top operations", "operations"),
    ):
        rows = dashboard.api(f"/admin/stats/{path}?{TZ}&limit=6")["data"]
        shown = page.locator("section", has=page.get_by_role("heading", name=title, exact=True)).locator("li")
        expect(shown).to_have_count(len(rows))
        for index, row in enumerate(rows):
            expect(shown.nth(index)).to_contain_text(row["name"] or row["key"] or "not named")
    forecast = dashboard.api(f"/admin/stats/trends?{TZ}&days=7")["forecast"]
    leads = page.get_by_text(re.compile(r"^\$[\d,.]+ by the end of"))
    expect(leads).to_be_visible()
    shown_usd = float(leads.inner_text().split()[0].lstrip("$").replace(",", ""))
    # It was asked a little earlier, and sinks while nothing is used.
    assert shown_usd == pytest.approx(float(forecast["cost_usd"]), rel=0.01)
    errors = dashboard.api(f"/admin/stats/errors?{TZ}")["by_code"][0]
    expect(page.get_by_label("Errors by kind").locator("li").first).to_contain_text(str(errors["error_code"]))


def test_the_overview_shows_spend_against_quotas(dashboard):
    page = dashboard.visit()
    top = dashboard.api(f"/admin/stats/top/users?{TZ}&limit=6")["data"]
    shares = {}
    for user in top:
        for each in dashboard.api(f"/admin/users/{user['key']}/quotas")["data"]:
            share = min(100, int(float(each["used"]) / float(each["limit"]) * 100 + 0.5))
            shares[each["id"], each["scope_id"]] = (share, each, user["name"])

    highest = sorted((share for share, *_ in shares.values()), reverse=True)[:8]
    meters = page.locator(".quotas").get_by_role("meter")
    expect(meters).to_have_count(len(highest))
    assert [int(each.get_attribute("aria-valuenow")) for each in meters.all()] == highest
    # Who is shown for a user's own: on the first of a month nobody may have spent enough to be among the highest.
    for share, each, name in shares.values():
        if (each["scope"], each["unit"]) == ("user", "cost") and share > highest[-1]:
            rule = re.compile(f"^{name}: \\{usd(each['limit'])} a month")
            expect(page.get_by_role("meter", name=rule)).to_have_attribute("aria-valuenow", str(share))


def test_the_chart_is_drawn_and_the_same_numbers_are_a_table(dashboard):
    page = dashboard.visit()
    drawn = page.locator("canvas").first
    expect(drawn).to_have_attribute("aria-label", re.compile("Cost over time, .* gpt-5-2025-08-07"))
    page.locator(".as-table summary").first.click()

    days = dashboard.api(f"/admin/stats/by?group_by=day&{TZ}&limit=100")["data"]
    table = page.locator(".as-table table").first
    expect(table.locator("tbody tr")).to_have_count(30)
    models = dashboard.api(f"/admin/stats/by?group_by=model,day&{TZ}&model=gpt-5-2025-08-07&limit=100")[
        "data"
    ]
    by_day = {row["second_key"]: row for row in models}
    row = table.locator("tbody tr").nth(14)
    cost = float(by_day[days[14]["key"]]["cost_usd"]) if days[14]["key"] in by_day else 0
    expect(row.locator("td").first).to_have_text(usd(cost))
    assert page.evaluate(
        "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 900, 260).data.some(each => each)"
    )


def test_measure_and_stacking_are_chosen_and_stay_in_the_address(dashboard):
    page = dashboard.visit()

    dashboard.press("Tokens", exact=True)
    dashboard.press("User", exact=True)

    top = dashboard.api(f"/admin/stats/users?{TZ}&sort=tokens&limit=1")["data"][0]
    expect(page.locator(".legend button").first).to_have_text(top["name"])
    expect(page).to_have_url(re.compile(r"\?metric=tokens&by=user$"))
    page.reload()
    dashboard.settled()
    expect(page.locator(".legend button").first).to_have_text(top["name"])
    expect(page.get_by_role("button", name="Tokens", exact=True)).to_have_attribute("aria-pressed", "true")


def test_a_series_is_hidden_by_its_button_in_the_legend(dashboard):
    page = dashboard.visit()
    button = page.locator(".legend button").first

    button.click()

    expect(button).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize(
    ("choice", "query"), [("Last 7 days", "days=7"), ("All time", "days=3660"), ("Last 90 days", "days=90")]
)
def test_the_time_range_is_chosen_and_stays_in_the_address(dashboard, choice, query):
    page = dashboard.visit()

    page.get_by_label("Time range").select_option(label=choice)
    dashboard.settled()

    cost = dashboard.api(f"/admin/stats/overview?{query}&{TZ}")["sums"]["cost_usd"]
    expect(tile(dashboard, "Cost").locator(".value")).to_have_text(usd(cost))
    page.reload()
    expect(tile(dashboard, "Cost").locator(".value")).to_have_text(usd(cost))


def test_a_range_of_ones_own_is_two_days(dashboard):
    page = dashboard.visit()
    days = dashboard.api(f"/admin/stats/by?group_by=day&{TZ}&limit=100")["data"]
    start, end = days[3]["key"], days[5]["key"]

    page.get_by_label("Time range").select_option(label="Custom range…")
    page.get_by_label("From").fill(end)
    page.get_by_label("To, included").fill(start)
    dashboard.press("Show", exact=True)
    expect(page.get_by_text("This lies before the first day.")).to_be_visible()
    page.get_by_label("From").fill(start)
    page.get_by_label("To, included").fill(end)
    dashboard.press("Show", exact=True)

    cost = dashboard.api(f"/admin/stats/overview?start={start}&end={end}&{TZ}")["sums"]["cost_usd"]
    expect(tile(dashboard, "Cost").locator(".value")).to_have_text(usd(cost))
    expect(page).to_have_url(re.compile(f"start={start}&end={end}$"))


def test_filters_are_added_shared_by_address_and_taken_away(open_page, dashboard):
    page = dashboard.visit()
    dashboard.press("Add filter")
    page.get_by_label("What").select_option("model")
    page.get_by_label("Is", exact=True).fill("gpt-5-2025-08-07")
    dashboard.press("Filter", exact=True)
    expect(page.get_by_text("Model: gpt-5-2025-08-07")).to_be_visible()

    shared = open_page()
    shared.page.goto(page.url)
    shared.settled()
    cost = dashboard.api(f"/admin/stats/overview?model=gpt-5-2025-08-07&{TZ}")["sums"]["cost_usd"]
    expect(tile(shared, "Cost").locator(".value")).to_have_text(usd(cost))

    page.get_by_role("button", name="Remove filter Model").click()
    whole = dashboard.api(f"/admin/stats/overview?{TZ}")["sums"]["cost_usd"]
    expect(tile(dashboard, "Cost").locator(".value")).to_have_text(usd(whole))
    page.go_back()
    expect(tile(dashboard, "Cost").locator(".value")).to_have_text(usd(cost))


def test_users_are_sorted_by_any_column_as_the_api_sorts_them(dashboard):
    page = dashboard.visit("/users")
    rows = page.locator("tbody tr")

    for label, sort in (
        ("Cost", "cost"),
        ("Requests", "requests"),
        ("Tokens", "tokens"),
        ("Last active", "last_at"),
    ):
        if label != "Cost":
            page.locator("thead").get_by_role("button", name=label).click()
            expect(page.locator("th[aria-sort=descending]")).to_have_text(label)
        expected = dashboard.api(f"/admin/stats/users?{TZ}&sort={sort}&limit=25")["data"]
        expect(rows).to_have_count(len(expected))
        for index in (0, 1, 10):
            expect(rows.nth(index).locator("th")).to_contain_text(expected[index]["name"])
            expect(rows.nth(index).locator("td").first).to_have_text(f"{expected[index]['requests']:,}")
    page.locator("thead").get_by_role("button", name="Last active").click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Last active")


def test_users_are_found_by_words_and_have_their_tightest_quota(dashboard):
    page = dashboard.visit("/users")
    page.get_by_label("Search names, e-mail, ids").fill("tanaka")
    page.keyboard.press("Enter")

    expect(page.locator("tbody tr")).to_have_count(1)
    row = page.locator("tbody tr").first
    expect(row).to_contain_text("Mei Tanaka")
    (user,) = dashboard.api("/admin/users?search=tanaka")["data"]
    quotas = dashboard.api(f"/admin/users/{user['id']}/quotas")["data"]
    tightest = max(float(each["used"]) / float(each["limit"]) for each in quotas if each["scope"] == "user")
    expect(row.get_by_role("meter")).to_have_attribute("aria-valuenow", str(round(tightest * 100)))
    page.get_by_label("Search names, e-mail, ids").fill("nobody of that name")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nobody is called that")).to_be_visible()


def test_a_users_page_shows_usage_quotas_keys_and_requests(dashboard):
    top = dashboard.api(f"/admin/stats/top/users?{TZ}&limit=1")["data"][0]
    page = dashboard.visit("/users")
    page.get_by_role("link", name=top["name"]).click()
    dashboard.settled()

    seen = dashboard.api(f"/admin/users/{top['key']}/usage?{TZ}")
    expect(page.get_by_role("heading", level=1)).to_have_text(top["name"])
    expect(tile(dashboard, "Cost").locator(".value")).to_have_text(usd(seen["sums"]["cost_usd"]))
    assert page.get_by_role("meter").count() == len(seen["quotas"])
    models = page.get_by_label("Models by cost").locator("li")
    expect(models).to_have_count(min(8, len(seen["models"])))
    expect(models.first).to_contain_text(seen["models"][0]["key"])
    expect(page.locator("[data-record]")).to_have_count(20)
    expect(
        page.get_by_text(dashboard.api(f"/admin/users/{top['key']}/keys")["data"][0]["masked"])
    ).to_be_visible()
    assert page.locator("canvas").count() == 2


def test_a_request_shows_all_of_its_fields(dashboard):
    page = dashboard.visit("/requests?operation=agent_run")
    records = dashboard.api(f"/admin/records?operation=agent_run&limit=50&{TZ}")["data"]
    record = next(each for each in records if each["served_model"] and each["upstream_request_id"])

    page.locator(f'[data-record="{record["id"]}"]').click()

    dialog = dashboard.dialog()
    for value in (
        record["id"],
        record["user_name"],
        record["served_model"],
        f"{record['input_tokens']:,}",
        record["price_id"],
        record["upstream_request_id"],
    ):
        expect(dialog).to_contain_text(value)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert page.evaluate("document.activeElement.dataset.record") == record["id"], "focus goes back"


def test_history_goes_on_to_older_requests(dashboard):
    page = dashboard.visit("/requests")
    pages = [dashboard.api(f"/admin/records?limit=50&{TZ}")]
    pages.append(dashboard.api(f"/admin/records?limit=50&{TZ}&cursor={pages[0]['next_cursor']}"))

    expect(page.locator("[data-record]").first).to_have_attribute("data-record", pages[0]["data"][0]["id"])
    page.get_by_role("link", name="Older", exact=True).click()

    expect(page.locator("[data-record]").first).to_have_attribute("data-record", pages[1]["data"][0]["id"])
    page.get_by_role("button", name="Failed").click()
    failed = dashboard.api(f"/admin/records?failed=true&limit=50&{TZ}")["data"]
    expect(page.locator("[data-record]").first).to_have_attribute("data-record", failed[0]["id"])


def test_models_show_success_latency_speed_and_an_unknown_price(dashboard):
    page = dashboard.visit("/models")
    rows = dashboard.api(f"/admin/stats/performance?{TZ}")["data"]

    shown = page.locator("tbody tr")
    expect(shown).to_have_count(len(rows))
    expect(shown.first).to_contain_text(rows[0]["model"])
    expect(shown.first).to_contain_text(f"{rows[0]['sums']['requests']:,}")
    expect(page.locator("tbody tr", has_text="llama-4-scout-internal")).to_contain_text("price unknown")
    page.locator("thead").get_by_role("button", name="Tokens/s").click()
    fastest = max(rows, key=lambda row: row["output_tokens_per_second"] or 0)
    expect(shown.first).to_contain_text(fastest["model"])


@pytest.mark.parametrize("dimension", ["endpoint", "operation"])
def test_endpoints_and_operations_show_their_sums(dashboard, dimension):
    page = dashboard.visit(f"/{dimension}s")
    rows = dashboard.api(f"/admin/stats/{dimension}s?{TZ}")["data"]

    expect(page.locator("tbody tr")).to_have_count(len(rows))
    for index, row in enumerate(rows):
        line = page.locator("tbody tr").nth(index)
        expect(line.locator("th")).to_have_text(row["key"] or "not named")
        expect(line.locator("td").first).to_have_text(f"{row['requests']:,}")


def test_groups_show_their_users_and_usage_and_lead_to_a_page_of_each(dashboard):
    page = dashboard.visit("/groups")
    top = dashboard.api(f"/admin/stats/groups?{TZ}")["data"][0]
    expect(page.locator("tbody tr").first).to_contain_text(top["name"])

    page.locator("tbody tr").first.click(position={"x": 300, "y": 10})
    dashboard.settled()

    seen = dashboard.api(f"/admin/groups/{top['key']}/usage?{TZ}")
    expect(page.get_by_role("heading", level=1)).to_have_text(top["name"])
    expect(tile(dashboard, "Cost").locator(".value")).to_have_text(usd(seen["sums"]["cost_usd"]))
    names = {row["key"]: row["name"] for row in dashboard.api("/admin/stats/users?days=3660")["data"]}
    expect(page.get_by_label("Users by cost").locator("li").first).to_contain_text(
        names[seen["users"][0]["key"]]
    )


def test_errors_are_counted_by_kind_model_and_user(dashboard):
    page = dashboard.visit("/errors")
    seen = dashboard.api(f"/admin/stats/errors?{TZ}")

    expect(tile(dashboard, "Failed requests").locator(".value")).to_have_text(f"{seen['errors']:,}")
    kinds = page.locator("section", has=page.get_by_role("heading", name="By kind")).locator("tbody tr")
    expect(kinds).to_have_count(len(seen["by_code"]))
    expect(kinds.first).to_contain_text(f"{seen['by_code'][0]['requests']:,}")


def test_an_address_that_leads_nowhere_says_so(dashboard):
    page = dashboard.visit("/nothing/here")
    expect(page.get_by_role("heading", level=1)).to_have_text("Not found")

    page.get_by_role("link", name="To the overview").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def test_what_went_wrong_is_said_in_words(open_page):
    dashboard = open_page()
    page = dashboard.page
    page.route("**/admin/stats/endpoints*", lambda route: route.fulfill(
        status=503, content_type="application/json",
        body='{"error": {"message": "The report took too long.", "type": "server_error", "param": null, "code": "report_too_slow"}}',
    ))  # fmt: skip
    dashboard.visit("/endpoints")
    expect(page.get_by_role("alert")).to_contain_text("The report took too long.")
    page.unroute("**/admin/stats/endpoints*")

    dashboard.press("Try again")

    expect(page.get_by_role("heading", level=1)).to_have_text("Endpoints")
    dashboard.noted(503)


def test_numbers_are_written_as_the_reader_writes_them(open_page):
    dashboard = open_page(locale="de-DE")
    dashboard.visit()
    cost = float(dashboard.api(f"/admin/stats/overview?{TZ}")["sums"]["cost_usd"])

    written = f"{cost:,.2f}".translate(str.maketrans(",.", ".,"))

    expect(tile(dashboard, "Cost").locator(".value")).to_have_text(f"{written}\u00a0$")


def test_every_page_says_that_answers_are_simulated(dashboard):
    for path in ("", "/users", "/audit"):
        expect(dashboard.visit(path).locator(".simulated")).to_contain_text("Simulated")


def test_light_or_dark_follows_the_system_until_one_chooses(open_page):
    dashboard = open_page(color_scheme="dark")
    page = dashboard.visit()
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "dark")

    dashboard.press("Use light colours")

    expect(root).to_have_attribute("data-theme", "light")
    page.reload()
    expect(root).to_have_attribute("data-theme", "light")


@pytest.mark.parametrize("path", [*PAGES, "/users/ID", "/groups/ID", "/plans/ID"])
def test_axe_finds_nothing_serious_in_light_and_dark_and_nothing_is_wider_than_a_phone(open_page, path):
    dashboard = open_page(bypass_csp=True)
    kind = path.removesuffix("/ID")
    if kind != path:
        path = f"{kind}/{quote(dashboard.api(f'/admin{kind}')['data'][0]['id'])}"
    page = dashboard.visit(path)

    serious = _serious(page, {})
    # In the dark only colours differ.
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    serious |= _serious(page, {"runOnly": ["color-contrast"]})
    page.set_viewport_size(PHONE)

    assert serious == set()
    assert page.evaluate(TOO_WIDE) == []


def _serious(page: Page, options: dict[str, list[str]]) -> set[str]:
    """What axe finds; rows after the third are like those before."""
    context = {"exclude": [["tbody tr:nth-child(n+4)"], ["li:nth-child(n+4):not(.nav li)"]]}
    found = Axe().run(page, context=context, options={"resultTypes": ["violations"]} | options).response
    return {
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"][:3]
    }


def test_on_a_phone_the_menu_opens_and_closes(open_page):
    dashboard = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    page = dashboard.visit("/keys")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    menu = page.get_by_role("navigation", name="Main")
    expect(menu.get_by_role("link", name="Models")).to_be_hidden()

    dashboard.press("Menu")
    page.keyboard.press("Escape")
    expect(menu.get_by_role("link", name="Models")).to_be_hidden()
    dashboard.press("Menu")
    menu.get_by_role("link", name="Models").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Models")
    expect(menu.get_by_role("link", name="Groups")).to_be_hidden()


def test_the_keyboard_reaches_everything(dashboard):
    page = dashboard.visit()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    page.get_by_role("link", name="Users", exact=True).first.focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.get_by_role("heading", level=1)).to_have_text("Users")


def test_the_first_view_asks_little(dashboard):
    asked = []
    dashboard.page.on("request", lambda request: asked.append(request.url.removeprefix(dashboard.proxy.url)))

    dashboard.visit()

    data = [path for path in asked if path.startswith("/admin")]
    assert len(data) <= 16, data
    assert data[0] == "/admin/stats/bulk", "one request brings all that the first view shows"
