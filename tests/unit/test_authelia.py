"""What Authelia is told, in every version that it may have; and what its container gets.

That 4.37.5 takes it, tests/integration/test_authelia.py shows. Later ones can't be built from modules: what is
expected of them here is valid by the schemas that they publish
(https://www.authelia.com/schemas/v4.39/json-schema/configuration.json, and v4.38).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pulumi
import pytest

from components.authelia import Authelia, AutheliaArgs
from components.authelia_config import Configured, configuration, users
from components.images import Images
from components.networks import Networks
from components.postgres import Database, Postgres, PostgresArgs
from providers.connection import EngineConnection
from settings import (
    AuthSettings,
    ImageSettings,
    NetworksSettings,
    ProxySettings,
    Settings,
)
from tests.unit.recorder import Recorded, is_secret, plain, record, revealed

pytestmark = pytest.mark.usefixtures("_project")
BUILT, NEXT, OFFICIAL = (4, 37, 5), (4, 38), (4, 39, 28)
VERSIONS = (BUILT, NEXT, OFFICIAL)
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA"
SMTP = {"host": "mail.example.com", "user": "robot", "password": "smtp-secret", "sender": "door@example.com"}
PROXY = ProxySettings.model_validate({"mode": "managed", "domain": "example.com", "https_port": 8443})


def auth(**more: object) -> AuthSettings:
    ada = {"email": "ada@example.com", "password_hash": HASH, "groups": ["analysts", "admins"]}
    bob = {"display_name": "Bob B.", "email": "bob@example.com", "password_hash": HASH, "disabled": True}
    return AuthSettings.model_validate({"mode": "managed", "users": {"ada": ada, "bob": bob}, **more})


def told(
    version: tuple[int, ...], settings: AuthSettings | None = None, database: Database | None = None
) -> dict[str, Any]:
    settings = settings or auth()
    access = Settings.model_construct(auth=settings, proxy=PROXY).guarded
    text = configuration(
        Configured(version, settings, PROXY, "door-session", "/root/users.yml", database, None, access)
    )
    content: dict[str, Any] = json.loads(text)
    return content


def postgres() -> Database:
    # No output: the configuration doesn't look at it, and one outside of a program disturbs the next.
    password = cast("pulumi.Output[str]", "x")
    return Database("postgres", 5432, "authelia", "authelia", password, tls=False, networks=[])


@pytest.mark.parametrize("version", VERSIONS)
def test_who_may_see_what(version: tuple[int, ...]) -> None:
    access = {"tasks": {"groups": ["analysts", "admins"], "policy": "two_factor"}}
    assert told(version, auth(access=access))["access_control"] == {
        "default_policy": "deny",
        "rules": [
            # A list of subjects: one of them is enough.
            {"domain": "tasks.example.com", "policy": "two_factor", "subject": ["group:analysts", "group:admins"]},
            {"domain": "storage-console.example.com", "policy": "one_factor"},
        ],
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_calls_outside_and_users_are_settings(version: tuple[int, ...]) -> None:
    content = told(version)
    assert content["ntp"] == {"disable_startup_check": True}
    assert content["telemetry"] == {"metrics": {"enabled": False}}
    assert content["notifier"] == {
        "disable_startup_check": True,
        "filesystem": {"filename": "/data/notifications.txt"},
    }
    backend = content["authentication_backend"]
    assert backend["file"] == {"path": "/root/users.yml", "watch": False}
    assert backend["password_reset"] == {"disable": True}
    # 4.39 brought it, and any version refuses a key that it does not know.
    assert backend.get("password_change") == ({"disable": True} if version >= (4, 39) else None)


@pytest.mark.parametrize("version", VERSIONS)
def test_guessing_is_throttled(version: tuple[int, ...]) -> None:
    assert told(version)["regulation"] == {"max_retries": 3, "find_time": "2m", "ban_time": "5m"}


def test_the_session_before_4_38() -> None:
    content = told(BUILT)
    assert content["session"].items() >= {"name": "door-session", "domain": "example.com"}.items()
    assert content["default_redirection_url"] == "https://tasks.example.com:8443"
    assert content["server"] == {"host": "0.0.0.0", "port": 9091}  # noqa: S104


@pytest.mark.parametrize("version", [NEXT, OFFICIAL])
def test_the_session_since_4_38(version: tuple[int, ...]) -> None:
    content = told(version)
    assert content["session"]["name"] == "door-session"
    assert content["session"]["cookies"] == [
        {
            "domain": "example.com",
            "authelia_url": "https://auth.example.com:8443",
            "default_redirection_url": "https://tasks.example.com:8443",
        }
    ]
    assert not {"domain", "remember_me_duration"} & content["session"].keys()
    assert "default_redirection_url" not in content
    assert content["server"]["address"] == "tcp://:9091/"


@pytest.mark.parametrize("version", [NEXT, OFFICIAL])
def test_nothing_but_a_session_opens_a_host(version: tuple[int, ...]) -> None:
    assert told(version)["server"]["endpoints"]["authz"] == {
        "forward-auth": {"implementation": "ForwardAuth", "authn_strategies": [{"name": "CookieSession"}]}
    }


@pytest.mark.parametrize(
    ("version", "storage"),
    [
        (BUILT, {"host": "postgres", "port": 5432, "database": "authelia", "username": "authelia"}),
        (NEXT, {"address": "tcp://postgres:5432", "database": "authelia", "username": "authelia"}),
    ],
)
def test_storage(version: tuple[int, ...], storage: Mapping[str, object]) -> None:
    assert told(version)["storage"] == {"local": {"path": "/data/db.sqlite3"}}
    assert told(version, database=postgres())["storage"] == {"postgres": storage}


@pytest.mark.parametrize(
    ("version", "port", "server"),
    [
        (BUILT, 587, {"host": "mail.example.com", "port": 587}),
        (NEXT, 587, {"address": "submission://mail.example.com:587"}),
        (NEXT, 465, {"address": "submissions://mail.example.com:465"}),
        (NEXT, 25, {"address": "smtp://mail.example.com:25"}),
    ],
)
def test_mail(version: tuple[int, ...], port: int, server: Mapping[str, object]) -> None:
    notifier = told(version, auth(smtp={**SMTP, "port": port}))["notifier"]
    # A mail server that is down keeps nobody out.
    expected = {"smtp": {**server, "username": "robot", "sender": "door@example.com"}, "disable_startup_check": True}
    assert notifier == expected


def test_the_user_file() -> None:
    assert json.loads(users(auth())) == {
        "users": {
            "ada": {
                "disabled": False,
                "displayname": "ada",
                "password": HASH,
                "email": "ada@example.com",
                "groups": ["analysts", "admins"],
            },
            "bob": {
                "disabled": True,
                "displayname": "Bob B.",
                "password": HASH,
                "email": "bob@example.com",
                "groups": [],
            },
        }
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_the_configuration_holds_no_secret(version: tuple[int, ...]) -> None:
    text = json.dumps(told(version, auth(smtp=SMTP), postgres()))
    assert "smtp-secret" not in text
    assert HASH not in text


def declared(settings: AuthSettings, images: Mapping[str, object]) -> list[Recorded]:
    """An Authelia, and the Postgres of its stack."""

    def program() -> None:
        networks = Networks("networks", NetworksSettings())
        made = Images("images", ImageSettings.model_validate(images))
        engine = EngineConnection(server="host", url="unix:///var/run/docker.sock")
        stack = Settings.model_construct(auth=settings, proxy=PROXY)
        server = Postgres("postgres", PostgresArgs(stack, made, networks, engine))
        Authelia("authelia", AutheliaArgs(settings, stack.guarded, 1, PROXY, made, [networks.caddy], server.authelia))

    return record(program=program)


def container(resources: list[Recorded], name: str = "authelia") -> dict[str, Any]:
    return next(dict(r.inputs) for r in resources if r.kind == "Container" and r.name == name)


def files(of: Mapping[str, Any]) -> dict[str, str]:
    return {each["file"]: each["content"] for each in revealed(of["uploads"])}


def env(of: Mapping[str, Any]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in revealed(of["envs"]))


@pytest.mark.parametrize(
    ("images", "own"),
    [({"source": "build"}, {"AUTHELIA_JWT_SECRET_FILE"}), ({}, set())],
)
def test_secrets_are_files(images: Mapping[str, object], own: set[str]) -> None:
    authelia = container(declared(auth(smtp=SMTP, storage="postgres"), images))
    variables, given = env(authelia), files(authelia)
    assert variables.keys() == own | {
        "AUTHELIA_SESSION_SECRET_FILE",
        "AUTHELIA_STORAGE_ENCRYPTION_KEY_FILE",
        "AUTHELIA_STORAGE_POSTGRES_PASSWORD_FILE",
        "AUTHELIA_NOTIFIER_SMTP_PASSWORD_FILE",
    }
    assert all(path.startswith("/root/") and given[path] for path in variables.values())
    assert given["/root/authelia-storage_encryption_key"] == "generated-authelia-encryption-key"
    shown = json.dumps(plain(authelia))
    for secret in [HASH, "smtp-secret", *(given[path] for path in variables.values())]:
        assert secret not in shown
    assert "default_policy" in shown, "what is no secret can be read in a preview"


def test_the_users_are_a_secret_file() -> None:
    uploads = container(declared(auth(), {}))["uploads"]
    path = json.loads(files({"uploads": uploads})["/config/configuration.yml"])["authentication_backend"]["file"][
        "path"
    ]
    file = next(each for each in uploads if revealed(each)["file"] == path)
    assert is_secret(file) or is_secret(file["content"])
    assert json.loads(revealed(file)["content"]) == json.loads(users(auth()))


def test_a_mail_server_may_have_a_certificate_of_the_companys_authority(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    given = files(container(declared(auth(smtp=SMTP), {"ca_bundle": str(bundle)})))
    directory = json.loads(given["/config/configuration.yml"])["certificates_directory"]
    assert given[f"{directory}/ca-bundle.crt"] == bundle.read_text()


def test_it_runs_without_rights_on_caddys_network() -> None:
    authelia = revealed(container(declared(auth(), {})))
    assert authelia["capabilities"] == {"drops": ["ALL"], "adds": []}
    assert authelia["command"] == ["authelia", "--config", "/config/configuration.yml"]
    assert [n["name"] for n in authelia["networksAdvanced"]] == ["prefect-environment-test-caddy-network"]
    assert authelia.get("ports", []) == []
    assert authelia["memory"] == 256


def test_what_its_data_needs_is_kept() -> None:
    resources = {r.name: r for r in declared(auth(), {}) if r.name.startswith("authelia")}
    assert {name for name, r in resources.items() if r.protect} == {
        "authelia-data",
        "authelia-data-terms",
        "authelia-encryption-key",
    }
    assert resources["authelia-data"].retain_on_delete
    assert revealed(resources["authelia-data-terms"].inputs)["terms"] == {"path": "/data", "auth.storage": "sqlite"}


def test_a_database_of_its_own() -> None:
    resources = declared(auth(storage="postgres"), {})
    authelia, server = container(resources), container(resources, "postgres")
    joined = {n["name"] for n in revealed(authelia["networksAdvanced"])}
    assert joined == {"prefect-environment-test-caddy-network", "prefect-environment-test-database-network"}
    [role] = [revealed(r.inputs) for r in resources if r.name == "postgres-authelia"]
    assert (role["role"], role["database"]) == ("authelia", "authelia")
    assert role["password"] == files(authelia)["/root/authelia-storage_postgres_password"]
    assert not [path for path in files(server) if path.startswith("/root/")], "it holds no password"
