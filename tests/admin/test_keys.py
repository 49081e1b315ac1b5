"""Keys over the admin API: shown once, masked ever after, rotated, revoked."""

from __future__ import annotations

from proxy.core.key import is_well_formed
from proxy.store import issued_keys


async def test_a_key_is_shown_once_and_masked_ever_after(api):
    user = await api.post("/admin/users", {"name": "Ana"})
    made = await api.post(
        f"/admin/users/{user['id']}/keys", {"name": "laptop", "expires_at": "2100-01-01T00:00:00Z"}
    )

    assert is_well_formed(made["key"])
    assert made["expires_at"] == "2100-01-01T00:00:00Z"
    listed = (await api.get(f"/admin/users/{user['id']}/keys"))["data"]
    assert listed == [{name: value for name, value in made.items() if name != "key"}]
    assert made["key"] not in str(await api.get("/admin/audit"))
    assert "digest" not in str(await api.get("/admin/audit"))


async def test_nothing_is_required_of_a_key(api):
    user = await api.post("/admin/users", {"name": "Ana"})

    status, made = await api.ask("POST", f"/admin/users/{user['id']}/keys", {})

    assert (status, made["name"], made["expires_at"]) == (201, None, None)
    assert (await api.refused("POST", "/admin/users/nobody/keys", {}))[:2] == (404, "not_found")
    assert await api.refused(
        "POST", f"/admin/users/{user['id']}/keys", {"expires_at": "2020-01-01T00:00:00Z"}
    ) == (
        400,
        "invalid_value",
        "expires_at",
    )


async def test_a_repeated_creation_does_not_show_the_key_again(api):
    user = await api.post("/admin/users", {"name": "Ana"})
    headers = {"idempotency-key": "k1"}
    first = await api.post(f"/admin/users/{user['id']}/keys", {}, headers=headers)
    again = await api.post(f"/admin/users/{user['id']}/keys", {}, headers=headers)

    assert again == first | {"key": None}
    assert first["key"] not in str(await api.pool.fetch("select * from idempotency_keys"))


async def test_a_revoked_key_is_dead_and_stays_in_the_list(api):
    user = await api.post("/admin/users", {"name": "Ana"})
    made = await api.post(f"/admin/users/{user['id']}/keys", {})

    status, revoked = await api.ask("DELETE", f"/admin/keys/{made['id']}")

    assert status == 200
    assert revoked["revoked_at"] is not None
    assert await issued_keys.live_key(api.pool, made["key"]) is None
    assert (await api.get("/admin/keys?live=true"))["total"] == 0
    assert (await api.get("/admin/keys?live=false"))["total"] == 1


async def test_a_rotation_keeps_the_rules_and_lets_the_old_key_live_for_a_while(api):
    user = await api.post("/admin/users", {"name": "Ana"})
    old = await api.post(f"/admin/users/{user['id']}/keys", {"rules": {"allowed_addresses": ["10.0.0.1/8"]}})

    new = await api.post(f"/admin/keys/{old['id']}/rotate", {"grace_s": 60})

    assert new["rules"]["allowed_addresses"] == ["10.0.0.0/8"]
    assert await issued_keys.live_key(api.pool, old["key"]) is not None
    assert await issued_keys.live_key(api.pool, new["key"]) is not None
    assert (await api.get(f"/admin/keys/{old['id']}"))["expires_at"] is not None


async def test_a_key_is_changed_by_field(api):
    user = await api.post("/admin/users", {"name": "Ana"})
    made = await api.post(f"/admin/users/{user['id']}/keys", {"name": "a", "default_tags": {"app": "web"}})

    status, changed = await api.ask(
        "PATCH", f"/admin/keys/{made['id']}", {"expires_at": "2100-01-01T01:00:00+01:00", "service": True}
    )

    assert status == 200
    assert (changed["expires_at"], changed["service"]) == ("2100-01-01T00:00:00Z", True)
    assert changed["default_tags"] == {"app": "web"}
