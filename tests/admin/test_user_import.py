"""Users from CSV: all or none, and a dry run that changes nothing."""

from __future__ import annotations

GOOD = 'name,email,external_id,group,tag.grade\r\nAna,ana@school.example,42,5A,9\r\n"Eva, B.",,43,,\r\n'


async def put(api, text, query=""):
    return await api.ask(
        "POST", f"/admin/users/import{query}", data=text.encode(), headers={"content-type": "text/csv"}
    )


async def test_a_dry_run_says_what_would_happen(api):
    await api.post("/admin/groups", {"name": "5A"})

    assert await put(api, GOOD, "?dry_run=true") == (
        200,
        {"dry_run": True, "rows": 2, "created": 0, "faults": []},
    )
    assert (await api.get("/admin/users"))["total"] == 0


async def test_all_rows_become_users(api):
    await api.post("/admin/groups", {"name": "5A"})

    status, answer = await put(api, "\ufeff" + GOOD)

    assert (status, answer["created"]) == (200, 2)
    users = (await api.get("/admin/users"))["data"]
    assert [(user["name"], user["email"], user["group_name"], user["tags"]) for user in users] == [
        ("Ana", "ana@school.example", "5A", {"grade": "9"}),
        ("Eva, B.", None, None, {}),
    ]
    assert (await api.get("/admin/audit?action=users.import"))["data"][0]["after"] == {"created": 2}


async def test_one_wrong_line_and_nothing_is_created(api):
    await api.post("/admin/users", {"name": "taken", "email": "ana@school.example"})

    _, answer = await put(
        api, "name,email,tag.a,group\nAna,ana@SCHOOL.example,,\nEva,nonsense,,\n,,x,\nIda,,,5A\nUli,,,\n"
    )

    assert answer["created"] == 0
    assert [(fault["line"], fault["field"]) for fault in answer["faults"]] == [
        (2, "email"),
        (3, "email"),
        (4, "name"),
        (5, "group"),
    ]
    assert (await api.get("/admin/users"))["total"] == 1


async def test_what_is_no_list_of_users_is_refused(api):
    for text in (
        "",
        "group,tag.grade\n5A,9\n",
        "name,colour\nAna,red\n",
        'name\n"Ana',
        "name\nAna,more\n",
        "name,name\na,b\n",
    ):
        assert (await put(api, text))[0] == 400, text
    assert (await api.ask("POST", "/admin/users/import", data=b"name\n\xff\n"))[0] == 400


async def test_ids_alone_make_users(api):
    _, answer = await put(api, "external_id\n42\n43\n")

    assert answer["created"] == 2
    assert (await api.get("/admin/users/43"))["name"] is None
