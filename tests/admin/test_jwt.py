"""Administrators by JSON Web Token: both ways of signing, what claims say, and what is refused."""

from __future__ import annotations

import base64
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy.admin.jwt import JWKS_AGAIN_S, JWKS_AGE_MAX_S, JwtVerifier
from proxy.settings import Settings
from proxy.store import people
from tests.admin.conftest import Api

SECRET = "a secret of at least thirty-two bytes"
RSA, EC = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())


def claims(**more):
    return {"sub": "ana", "role": "admin", "exp": time.time() + 600} | more


def by_secret(**more):
    return jwt.encode(claims(**more), SECRET, "HS256")


def public(key, kid):
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return kind.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"}


class Issuer:
    """Publishes keys, and counts how often it was asked."""

    def __init__(self, *keys):
        self.keys = list(keys)
        self.asked = 0
        self.down = False

    async def fetch(self, url):
        self.asked += 1
        if self.down:
            raise ConnectionError(url)
        return {"keys": self.keys}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def issuer():
    return Issuer(public(RSA, "r1"), public(EC, "e1"))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def verifier(issuer, clock):
    settings = Settings(
        admin_jwt_secret=SECRET,
        admin_jwks_url="https://issuer.example/jwks",
        admin_jwt_issuer="https://issuer.example",
        admin_jwt_audience="openai-proxy",
    )
    return JwtVerifier(settings, issuer.fetch, clock)


GOOD = {"iss": "https://issuer.example", "aud": "openai-proxy"}


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(SECRET, "HS256", None), (RSA, "RS256", "r1"), (EC, "ES256", "e1")]
)
async def test_each_way_of_signing(verifier, key, algorithm, kid):
    actor = await verifier.actor(
        jwt.encode(claims(**GOOD), key, algorithm, headers={"kid": kid} if kid else None)
    )

    assert actor is not None
    assert (actor.kind, actor.id, actor.scope, actor.group_id) == ("jwt", "ana", "write", None)


@pytest.mark.parametrize(
    ("more", "scope", "group"),
    [
        ({"role": "viewer"}, "read", None),
        ({"role": ["user", "Admin"]}, "write", None),
        ({"role": "read", "group": "group_1"}, "read", "group_1"),
    ],
)
async def test_what_claims_say(verifier, more, scope, group):
    actor = await verifier.actor(by_secret(**GOOD, **more))

    assert actor is not None
    assert (actor.scope, actor.group_id) == (scope, group)


@pytest.mark.parametrize(
    "token",
    [
        by_secret(**GOOD | {"aud": "other"}),
        by_secret(**GOOD | {"iss": "https://elsewhere.example"}),
        by_secret(**GOOD, exp=time.time() - 60),
        by_secret(**GOOD, role="teacher"),
        by_secret(**GOOD, role=None),
        by_secret(**GOOD, sub=None),
        by_secret(**GOOD, group=["a", "b"]),
        jwt.encode({"sub": "ana", "role": "admin", **GOOD}, SECRET, "HS256"),
        jwt.encode(claims(**GOOD), "another secret of thirty-two bytes or more", "HS256"),
        jwt.encode(claims(**GOOD), None, "none"),
        jwt.encode(claims(**GOOD), SECRET * 2, "HS512"),
        jwt.encode(claims(**GOOD), EC, "ES256", headers={"kid": "r1"}),
        jwt.encode(claims(**GOOD), rsa.generate_private_key(65537, 2048), "RS256", headers={"kid": "r1"}),
        jwt.encode(claims(**GOOD), RSA, "RS256", headers={"kid": "unknown"}),
        "a.b.c",
    ],
)
async def test_what_is_refused(verifier, token):
    assert await verifier.actor(token) is None


def with_header(**header):
    """A token whose header says what no library would write."""
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{head}.{by_secret(**GOOD).partition('.')[2]}"


@pytest.mark.parametrize(
    "token",
    [
        with_header(alg=["HS256"]),
        with_header(alg={"RS256": 1}),
        with_header(alg=None),
        with_header(alg="RS256", kid=["r1"]),
        with_header(alg="HS256", crit=["b64"], b64=False),
        by_secret(**GOOD, exp="soon"),
        by_secret(**GOOD, exp=[1]),
        by_secret(**GOOD, sub="an\0a"),
        by_secret(**GOOD, sub="\ud800"),
        by_secret(**GOOD, group="\ud800"),
        by_secret(**GOOD, group="a\0b"),
    ],
)
async def test_what_no_honest_issuer_writes_is_refused_too(verifier, token):
    assert await verifier.actor(token) is None


@pytest.mark.parametrize(
    ("said", "name"),
    [("Ana", "Ana"), ("n" * 5000, "n" * 200), ("a\0", None), ("\udfff", None), (5, None), ({"a": 1}, None)],
)
async def test_a_name_that_is_no_text_is_no_name(verifier, said, name):
    assert (await verifier.actor(by_secret(**GOOD, name=said))).name == name


async def test_a_key_set_that_names_its_keys_oddly_leaves_those_known_so_far(verifier, issuer, clock):
    token = jwt.encode(claims(**GOOD), RSA, "RS256", headers={"kid": "r1"})
    assert await verifier.actor(token) is not None
    issuer.keys = [public(RSA, ["r1"])]
    clock.now += JWKS_AGE_MAX_S + 1

    assert await verifier.actor(token) is not None


async def test_an_algorithm_that_is_not_configured_is_refused():
    verifier = JwtVerifier(Settings(admin_jwt_secret=SECRET), Issuer(public(RSA, "r1")).fetch)

    assert await verifier.actor(jwt.encode(claims(), RSA, "RS256", headers={"kid": "r1"})) is None
    assert await verifier.actor(by_secret()) is not None


async def test_keys_are_kept_and_a_rotation_is_seen_soon(verifier, issuer, clock):
    first = jwt.encode(claims(**GOOD), RSA, "RS256", headers={"kid": "r1"})
    for _ in range(3):
        assert await verifier.actor(first) is not None
    assert issuer.asked == 1
    rotated = rsa.generate_private_key(65537, 2048)
    issuer.keys = [public(rotated, "r2")]
    second = jwt.encode(claims(**GOOD), rotated, "RS256", headers={"kid": "r2"})

    assert await verifier.actor(second) is None
    clock.now += JWKS_AGAIN_S + 1
    assert await verifier.actor(second) is not None
    assert await verifier.actor(first) is None
    assert issuer.asked == 2


async def test_an_issuer_that_is_away_does_not_lock_anybody_out(verifier, issuer, clock):
    token = jwt.encode(claims(**GOOD), RSA, "RS256", headers={"kid": "r1"})
    assert await verifier.actor(token) is not None
    issuer.down = True
    clock.now += JWKS_AGE_MAX_S + 1

    assert await verifier.actor(token) is not None
    assert issuer.asked == 2


async def test_a_token_opens_the_api_within_its_scope_and_group(serve, pool):
    mine = await people.create_group(pool, name="mine")
    await people.create_user(pool, name="Ana", group_id=mine["id"])
    await people.create_user(pool, name="Eva")
    client = await serve(admin_jwt_secret=SECRET)
    head = Api(client, by_secret(role="read", group=mine["id"]), pool)

    assert [user["name"] for user in (await head.get("/admin/users"))["data"]] == ["Ana"]
    assert (await head.refused("POST", "/admin/users", {"name": "x"}))[0] == 403
    assert (await head.refused("GET", "/admin/audit"))[0] == 403
    everybody = Api(client, by_secret(), pool)
    await everybody.post("/admin/users", {"name": "x"})
    assert (await everybody.get("/admin/audit?action=user.create"))["data"][0]["actor"] == "jwt:ana"
