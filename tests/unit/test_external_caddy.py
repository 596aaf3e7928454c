"""proxy.mode external: what goes into the Caddy that is there already, and over which connection."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from providers.docker_cli import command
from settings import SettingsError
from tests.unit.recorder import Recorded, is_secret, plain, record, revealed
from tests.unit.test_components import BUILD, containers

pytestmark = pytest.mark.usefixtures("_project")

PROXY: Mapping[str, Any] = {"mode": "external", "domain": "example.com", "external": {"container": "caddy"}}
AUTH = {"mode": "external", "external": {"portal": "https://whoareyou.example.com/"}}
CREDENTIAL = base64.b64encode(b"admin:their-password").decode()


def recorded(**settings: Any) -> list[Recorded]:
    given = {
        "networks": {"caddy": {"external": "caddy-network"}},
        "proxy": PROXY,
        "auth": AUTH,
        "server": {"password": "their-password"},
    }
    return record({**BUILD, **given, **settings}, secret=("server",))


def site_file(resources: list[Recorded]) -> Recorded:
    [found] = [r for r in resources if r.kind == "SiteFile"]
    return found


def test_the_routes_go_into_that_caddy() -> None:
    resources = recorded()
    file = site_file(resources)
    assert file.inputs["container"] == "caddy"
    assert file.inputs["path"] == "/etc/caddy/sites/prefect.caddy"
    assert file.inputs["caddyfile"] == "/etc/caddy/Caddyfile"
    hosts = ["tasks.example.com", "tasks-api.example.com", "storage.example.com", "storage-console.example.com"]
    assert file.inputs["hosts"] == hosts
    content = revealed(file.inputs["content"])
    assert [host for host in hosts if f"https://{host} {{" in content] == hosts
    assert f"Basic {CREDENTIAL}" in content
    assert not {"caddy", "authelia"} & set(containers(resources))


def test_what_they_lead_to_comes_first() -> None:
    resources = recorded()
    servers = {r.urn for r in resources if r.kind == "Container" and r.name in {"prefect-server", "minio"}}
    assert len(servers) == 2
    assert servers <= site_file(resources).depends_on


def test_the_credential_is_in_secrets_alone() -> None:
    file = site_file(recorded())
    assert is_secret(file.inputs["content"])
    assert revealed(file.inputs["credentials"]) == [CREDENTIAL]
    assert CREDENTIAL not in json.dumps(plain(file.inputs))


def test_only_what_runs_is_looked_for() -> None:
    file = site_file(recorded(profiles={"minio": False}, flows={}))
    assert file.inputs["hosts"] == ["tasks.example.com", "tasks-api.example.com"]


def test_without_a_container_nothing_is_written() -> None:
    resources = recorded(proxy={"mode": "external", "domain": "example.com"})
    assert "SiteFile" not in {r.kind for r in resources}


@pytest.mark.parametrize("path", ["sites/prefect.caddy", "/etc/caddy/../x.caddy", "/etc/caddy/my sites/x.caddy", "/"])
@pytest.mark.parametrize("setting", ["snippet", "caddyfile"])
def test_paths_that_caddy_could_not_import_fail_in_preview(setting: str, path: str) -> None:
    with pytest.raises(SettingsError, match=rf"proxy\.external\.{setting}: .* is no whole path in the container"):
        recorded(proxy={**PROXY, "external": {"container": "caddy", setting: path}})


def test_an_engine_over_ssh_is_asked_where_it_runs() -> None:
    options = {"IdentityFile": "key"}
    connection = site_file(recorded(host={"address": "ssh://ops@host", "ssh_options": options})).inputs["connection"]
    assert connection["url"] == "ssh://ops@host"
    assert connection["via"]["address"] == "ssh://ops@host"
    assert "IdentityFile=key" in connection["via"]["options"]
    assert "tls_directory" not in connection


def test_an_engine_over_tls_is_asked_from_here(tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    host = {"address": "tcp://host:2376", "forward": "ssh://ops@host", "tls_directory": str(tmp_path)}
    connection = site_file(recorded(host=host)).inputs["connection"]
    assert connection == {"server": "host", "url": "tcp://host:2376", "tls_directory": str(tmp_path)}
    words = command(connection["url"], ["ps"], tls_directory=connection["tls_directory"])
    assert words[:4] == ["docker", "--host", "tcp://host:2376", "--tlsverify"]
    assert f"{tmp_path}/key.pem" in words
    assert words[-1] == "ps"
