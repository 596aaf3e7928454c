"""The front door: what its settings allow, what it declares, and what its routes say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from components.caddyfile import LogIn, Routes, caddyfile, sites
from policy.rules import MANDATORY, Resource
from settings import AuthEndpoint, ProxySettings, SettingsError, parse
from tests.unit.recorder import Recorded, plain, record, revealed

pytestmark = pytest.mark.usefixtures("_project")

HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g"
BUILD = {"images": {"source": "build"}}
MANAGED = {"mode": "managed", "domain": "example.com"}
USERS = {"ann": {"email": "ann@example.com", "password_hash": HASH}}
AUTH = {"mode": "managed", "users": USERS}
PORTAL = {"mode": "external", "external": {"portal": "https://whoareyou.example.com/"}}
EXTERNAL = {"proxy": {**MANAGED, "mode": "external"}, "networks": {"caddy": {"external": "caddy-network"}}}


def declared(**settings: Any) -> list[Recorded]:
    return record({**BUILD, **settings}, secret=("auth",))


def containers(resources: list[Recorded]) -> dict[str, dict[str, Any]]:
    return {r.name: revealed(r.inputs) for r in resources if r.kind == "Container"}


def rendered(proxy: Mapping[str, Any] = MANAGED, log_in: LogIn | None = None) -> dict[str, str]:
    settings = ProxySettings.model_validate(proxy)
    return sites(Routes(settings, log_in, "prefect-server:4200", "Basic eA==", "minio:9000", "minio:9001"))


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            {"proxy": MANAGED},
            {"proxy": {**MANAGED, "address": "10.0.0.1"}},
            EXTERNAL,
        ],
    )
    def test_a_door_that_is_open_to_others_asks_for_a_log_in(self, settings: Mapping[str, Any]) -> None:
        with pytest.raises(SettingsError, match=r"auth\.mode: whoever reaches the proxy could run code"):
            parse(settings, "dev")
        assert parse({**settings, "auth": PORTAL}, "dev").proxy.serves

    def test_on_loopback_there_may_be_no_log_in(self) -> None:
        settings = parse({"proxy": {**MANAGED, "address": "127.0.0.5"}}, "dev")
        assert settings.proxy.on_loopback

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"proxy": {"mode": "managed"}}, "proxy.domain: without it"),
            ({"proxy": {**MANAGED, "tasks": "storage"}}, "proxy: 'storage' is the name of two hosts"),
            ({"proxy": {**MANAGED, "domain": "localhost"}}, "proxy.domain: String should match pattern"),
            ({"proxy": {**MANAGED, "certificates": "files"}}, "proxy.certificate_directory: it goes with"),
            ({"proxy": {**MANAGED, "external": {"container": "caddy"}}}, "proxy.external: with mode managed"),
            ({"proxy": {**MANAGED, "acme_email": "a b"}}, "proxy.acme_email: a b is no mail address"),
            ({"proxy": {**MANAGED, "address": "::1"}}, "proxy.address: ::1 is no IPv4 address"),
            ({"proxy": {**MANAGED, "mode": "external"}, "auth": PORTAL}, "networks.caddy.external: your Caddy"),
            ({"proxy": {**MANAGED, "http_port": 443}, "auth": PORTAL}, "proxy.http_port: port 443 is also proxy"),
            ({"auth": PORTAL}, "auth.mode: without a proxy nobody is asked"),
            ({"proxy": MANAGED, "auth": {"mode": "managed"}}, "auth.users: nobody could log in"),
            ({"proxy": MANAGED, "auth": {**PORTAL, "users": USERS}}, "auth.users, auth.smtp: with auth.mode external"),
            ({"proxy": MANAGED, "auth": {**AUTH, "portal": "tasks"}}, "auth.portal: 'tasks' is another host's name"),
            ({"proxy": MANAGED, "auth": {"mode": "external"}}, "auth.external: it goes with mode external"),
            (
                {"proxy": MANAGED, "auth": {**AUTH, "access": {"tasks": {"groups": ["data"]}}}},
                "auth.access.tasks.groups: no user is in data",
            ),
            (
                {"proxy": MANAGED, "auth": {**AUTH, "users": {"ann": {**USERS["ann"], "password_hash": "secret"}}}},
                "auth.users.ann.password_hash: it is no argon2id hash",
            ),
            (
                {"proxy": MANAGED, "auth": {**AUTH, "storage": "postgres"}, "profiles": {
                    "orion": False, "agent": False, "cli": False, "dask": False}},
                "auth.storage: the stack has no Postgres",
            ),
            (
                {"proxy": MANAGED, "auth": PORTAL, "profiles": {
                    "orion": False, "agent": False, "cli": False, "dask": False, "minio": False}},
                "proxy.mode: neither Prefect nor",
            ),
        ],
    )  # fmt: skip
    def test_error_names_path_consequence_and_fix(self, settings: Mapping[str, Any], expected: str) -> None:
        with pytest.raises(SettingsError) as caught:
            parse(settings, "dev")
        lines = str(caught.value).splitlines()[1:]
        assert [line for line in lines if line.startswith(f"  - {expected}")], lines
        assert "secret" not in str(caught.value).replace("config secrets", "")

    def test_a_hash_in_plain_text_is_refused(self) -> None:
        with pytest.raises(SettingsError, match=r"auth\.users\.ann\.password_hash: it is in plain text"):
            record({**BUILD, "proxy": MANAGED, "auth": AUTH})

    def test_the_offset_moves_the_managed_proxy_and_its_urls_only(self) -> None:
        managed = parse({"proxy": MANAGED, "auth": PORTAL, "port_offset": 100}, "dev")
        assert (managed.proxy.http_port, managed.ui_url) == (180, "https://tasks.example.com:543")
        external = parse({**EXTERNAL, "auth": PORTAL, "port_offset": 100}, "dev")
        assert external.ui_url == "https://tasks.example.com"


class TestDeclared:
    def test_only_caddy_listens_to_others(self) -> None:
        found = containers(declared(proxy=MANAGED, auth=AUTH))
        ips = {name: {port["ip"] for port in each.get("ports", [])} for name, each in found.items()}
        assert ips.pop("caddy") == {"0.0.0.0"}  # noqa: S104
        assert set().union(*ips.values()) == {"127.0.0.1"}
        assert {(port["internal"], port["external"]) for port in found["caddy"]["ports"]} == {(80, 80), (443, 443)}

    def test_every_rule_of_the_policy_is_kept(self) -> None:
        resources = [
            Resource(r.type, r.name, revealed(r.inputs), r.protect) for r in declared(proxy=MANAGED, auth=AUTH)
        ]
        assert {"caddy", "authelia", "caddy-data", "authelia-data"} <= {r.name for r in resources}
        assert [problem for rule in MANDATORY.values() for r in resources for problem in rule(r)] == []

    def test_the_credential_and_the_hashes_are_secrets_everywhere(self) -> None:
        for resource in [*declared(proxy=MANAGED, auth=AUTH), *declared(**EXTERNAL, auth=AUTH)]:
            shown = str(plain(resource.inputs))
            assert HASH not in shown, resource.name
            assert "generated-" not in shown, resource.name

    def test_caddy_reads_the_credential_from_a_file(self) -> None:
        caddy = containers(declared(proxy=MANAGED, auth=AUTH))["caddy"]
        files = {upload["file"]: upload["content"] for upload in caddy["uploads"]}
        assert files["/root/prefect-api-authorization"].startswith("Basic ")
        assert "{file./root/prefect-api-authorization}" in files["/etc/caddy/Caddyfile"]
        assert files["/root/prefect-api-authorization"] not in files["/etc/caddy/Caddyfile"]

    def test_minio_and_prefect_know_their_public_names(self) -> None:
        found = containers(declared(proxy=MANAGED, auth=AUTH))
        assert "MINIO_BROWSER_REDIRECT_URL=https://storage-console.example.com" in found["minio"]["envs"]
        assert "PREFECT_UI_URL=https://tasks.example.com" in found["prefect-worker-dask-1"]["envs"]
        assert "PREFECT_SERVER_CORS_ALLOWED_ORIGINS=https://tasks.example.com" in found["prefect-server"]["envs"]

    def test_without_a_proxy_there_is_none_of_it(self) -> None:
        assert not {"caddy", "authelia"} & containers(declared()).keys()

    def test_somebodys_caddy_takes_the_place_of_our_own(self) -> None:
        resources = declared(**EXTERNAL, auth=PORTAL)
        assert not {"caddy", "authelia"} & containers(resources).keys()

    def test_only_what_runs_is_served(self) -> None:
        alone = {"orion": False, "agent": False, "cli": False, "dask": False}
        caddy = containers(declared(profiles=alone, proxy=MANAGED, auth=AUTH))["caddy"]
        [text] = [upload["content"] for upload in caddy["uploads"] if upload["file"] == "/etc/caddy/Caddyfile"]
        assert "https://storage.example.com {" in text
        assert "tasks" not in text

    def test_on_a_shared_network_caddy_asks_for_this_stacks_own(self) -> None:
        networks = {"caddy": {"external": "caddy-network"}}
        caddy = containers(declared(proxy=MANAGED, auth=AUTH, networks=networks))["caddy"]
        [text] = [upload["content"] for upload in caddy["uploads"] if upload["file"] == "/etc/caddy/Caddyfile"]
        for name in ("prefect-server:4200", "minio:9000", "minio:9001", "authelia:9091"):
            assert f"prefect-environment-test-{name}" in text
            assert f" {name}" not in text


class TestRoutes:
    LOG_IN = LogIn("authelia:9091", AuthEndpoint.VERIFY, "https://auth.example.com/", served=True)

    def test_people_log_in_where_the_article_says_so(self) -> None:
        found = rendered(log_in=self.LOG_IN)
        asked = {address for address, text in found.items() if "forward_auth authelia:9091" in text}
        assert asked == {"https://tasks.example.com", "https://storage-console.example.com"}
        for address in asked:
            assert "uri /api/verify?rd=https://auth.example.com/\n" in found[address]
            assert "copy_headers Remote-User Remote-Groups Remote-Name Remote-Email\n" in found[address]

    def test_the_newer_endpoint_is_rendered_too(self) -> None:
        newer = LogIn("authelia:9091", AuthEndpoint.FORWARD_AUTH, "https://auth.example.com/", served=True)
        text = rendered(log_in=newer)["https://tasks.example.com"]
        assert "uri /api/authz/forward-auth?authelia_url=https://auth.example.com/\n" in text

    def test_somebodys_portal_is_no_route_of_ours(self) -> None:
        theirs = LogIn("authelia:9091", AuthEndpoint.VERIFY, "https://whoareyou.example.com/", served=False)
        assert len(rendered(log_in=self.LOG_IN)) == 5
        assert len(rendered(log_in=theirs)) == 4

    def test_what_a_client_forged_goes_before_authelia_is_asked(self) -> None:
        text = rendered(log_in=self.LOG_IN)["https://tasks.example.com"]
        for name in ("Remote-*", "X-Original-*", "Authorization", "Proxy-Authorization"):
            assert 0 < text.index(f"request_header -{name}\n") < text.index("forward_auth")
        assert text.index("forward_auth") < text.index("header_up Authorization")

    def test_without_a_log_in_prefect_asks_by_itself(self) -> None:
        text = "\n".join(rendered().values())
        assert "reverse_proxy prefect-server:4200" in text
        assert "Authorization" not in text

    def test_only_an_authority_that_browsers_know_is_made_lasting(self) -> None:
        assert "Strict-Transport-Security" in caddyfile_of({**MANAGED})
        assert "Strict-Transport-Security" not in caddyfile_of({**MANAGED, "certificates": "internal"})
        assert "Strict-Transport-Security" not in caddyfile_of({**MANAGED, "mode": "external"})


def caddyfile_of(proxy: Mapping[str, Any]) -> str:
    return caddyfile(Routes(ProxySettings.model_validate(proxy), None, "p:1", "Basic eA==", "m:1", "m:2"))
