"""Who comes in by the front door and who does not, and that all that is served works through it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import boto3
import httpx
import pytest
import s3fs
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.e2e.environment import ROOT, docker, eventually
from tests.e2e.front_door import ADDRESS, DOMAIN, HTTP_PORT, PASSWORD, PORT, TICKING, Answer, FrontDoor

pytestmark = pytest.mark.xdist_group("front")

PEOPLE_ONLY: Final = ("tasks", "storage-console", "metrics")
"""The hosts behind the log-in."""
EVERY_HOST: Final = (*PEOPLE_ONLY, "tasks-api", "storage", "auth")
IDENTITY: Final = ("remote-user", "remote-groups", "remote-name", "remote-email")
SESSION: Final = "prefect-environment-front-session"
BASIC: Final = "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
UPGRADE: Final = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Protocol", "prefect"),
)
PATHS: Final = (
    "/", "//", "/./", "/../", "/%2e/", "/%2e%2e/", "/..%2f", "/%00", "/;", "/\\", "/*", "/?", "/%", "/?rd=/",
    "/v2/", "/v2/dashboard", "/docs", "/openapi.json", "/ui-settings", "/ui-settings?raw=1", "/UI-SETTINGS",
    "/api", "/api/", "//api//health", "/api/health", "/api/ready", "/api/admin/version", "/api/health/../admin/version",
    "/api/%2e%2e/api/admin/version", "/%61pi/admin/version", "/api%2fadmin%2fversion", "/API/health",
    "/api/verify", "/api/verify?auth=basic", "/api/authz/forward-auth", "/api/firstfactor", "/api/state",
    "/api/v1/session", "/api/v1/login", "/login", "/ws/objectManager", "/minio/health/live", "/flows/",
    "/.well-known/acme-challenge/token", "/.well-known/openid-configuration", "/favicon.ico", "/static/js/main.js",
)  # fmt: skip
FORGED: Final[tuple[tuple[tuple[str, str], ...], ...]] = (
    tuple((name, "ada") for name in ("Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email")),
    (("REMOTE-USER", "ada"), ("remote-groups", "engineers")),
    (("Remote_User", "ada"), ("Remote_Groups", "engineers")),
    (("Remote-User", "ada"), ("Remote-User", "ada")),
    (("Connection", "close, Remote-User, X-Forwarded-Host, X-Forwarded-Uri, X-Forwarded-Method, Cookie"),),
    (("X-Forwarded-Host", f"auth.{DOMAIN}"),),
    (("X-Forwarded-Host", f"storage.{DOMAIN}"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Uri", "/")),
    (("X-Forwarded-Uri", "/api/state"),),
    (("X-Forwarded-Method", "OPTIONS"),),
    (("X-Forwarded-Proto", "http"),),
    (("X-Forwarded-For", "127.0.0.1"), ("X-Real-Ip", "127.0.0.1"), ("Forwarded", "for=127.0.0.1;proto=https")),
    (("X-Forwarded-User", "ada"), ("X-Auth-Request-User", "ada"), ("X-Forwarded-Groups", "engineers")),
    (("X-Original-Url", f"https://auth.{DOMAIN}/"), ("X-Original-Method", "GET")),
    (("X-Rewrite-Url", "/api/health"), ("X-Http-Method-Override", "OPTIONS")),
    (("Authorization", BASIC),),
    (("Proxy-Authorization", BASIC),),
    (("Authorization", BASIC), ("Proxy-Authorization", BASIC), ("X-Authelia-Url", f"https://auth.{DOMAIN}:{PORT}/")),
    (("Authorization", "Bearer ada"),),
    (("Cookie", f"{SESSION}=ada"), ("Cookie", f"{SESSION}=; {SESSION}=x")),
    (("Accept", "application/json"), ("X-Requested-With", "XMLHttpRequest")),
    (("Host", f"auth.{DOMAIN}"),),
)  # fmt: skip
METHODS: Final = ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "PROPFIND")
HOSTS: Final = (
    "TASKS.front.test", f"TASKS.FRONT.TEST:{PORT}", "tasks.front.test", "tasks.front.test:443", "tasks.front.test:80",
    "tasks.front.test.", f"tasks.front.test.:{PORT}", "Tasks.Front.Test.", "tasks.front.test:0", "prefect-server",
    "prefect-server:4200", "127.0.0.1", "localhost:4200", "x.tasks.front.test", "elsewhere.test", "authelia:9091",
)  # fmt: skip


def sent_to_the_portal(front: FrontDoor, answer: Answer) -> bool:
    """A redirect to the portal, which is told where to lead back to."""
    where = answer.headers.get("location", "")
    return answer.status in {302, 303} and where.startswith(f"{front.url('auth')}/") and "rd=" in where


def kept_out(front: FrontDoor, answer: Answer) -> bool:
    """Sent to the portal, or refused by Caddy or Authelia themselves; no server behind them has said anything."""
    portal = f'<a href="{front.url("auth")}/?rd='.encode()
    own = answer.body in {b"", b"400 Bad Request", b"401 Unauthorized", b"403 Forbidden"}
    refused = answer.status in {400, 401, 403, 404} and (own or answer.body.startswith(portal))
    # Caddy says nothing, and its name, where the Host is none of its hosts.
    nothing = answer.status == 200 and not answer.body and answer.headers.get("server") == "Caddy"
    return sent_to_the_portal(front, answer) or refused or nothing


# Without a session.


@pytest.mark.parametrize("host", PEOPLE_ONLY)
def test_whoever_has_no_session_is_sent_to_the_portal(front: FrontDoor, host: str) -> None:
    answer = front.ask(host, "/a/page?of=it")
    assert sent_to_the_portal(front, answer)
    back = httpx.URL(answer.headers["location"]).params["rd"]
    assert back == f"{front.url(host)}/a/page?of=it"


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("host", PEOPLE_ONLY)
def test_no_path_leads_around_the_portal(front: FrontDoor, host: str, version: str) -> None:
    answers = {path: front.ask(host, path, version=version) for path in PATHS}
    assert not [path for path, answer in answers.items() if not kept_out(front, answer)]
    assert [answer.status in {302, 303} for answer in answers.values()].count(True) >= len(PATHS) - 5


@pytest.mark.parametrize("host", PEOPLE_ONLY)
def test_no_absolute_form_leads_around_the_portal(front: FrontDoor, host: str) -> None:
    for target in (
        front.url(host) + "/", front.url(host).upper(), f"http://{front.host(host)}/api/health",
        f"https://{front.host('TASKS')}/api/health", "http://prefect-server:4200/api/health", "http://minio:9001/",
    ):  # fmt: skip
        answer = front.ask(host, target)
        assert kept_out(front, answer), target


@pytest.mark.parametrize("host", PEOPLE_ONLY)
def test_no_forged_header_leads_around_the_portal(front: FrontDoor, host: str) -> None:
    for path in ("/", "/api/health", "/ui-settings?raw=1"):
        for forged in FORGED:
            assert kept_out(front, front.ask(host, path, forged)), (path, forged)


@pytest.mark.parametrize("host", PEOPLE_ONLY)
def test_no_method_leads_around_the_portal(front: FrontDoor, host: str) -> None:
    for method in METHODS:
        for path in ("/", "/api/health", "/api/flows/filter"):
            answer = front.ask(host, path, [("Content-Length", "0")], method=method)
            assert kept_out(front, answer), (method, path)


def test_no_host_header_leads_around_the_portal(front: FrontDoor) -> None:
    for host in HOSTS:
        for path in ("/", "/api/health", "/ui-settings?raw=1"):
            assert kept_out(front, front.ask("tasks", path, host=host)), (host, path)


@pytest.mark.parametrize("host", PEOPLE_ONLY)
def test_no_websocket_leads_around_the_portal(front: FrontDoor, host: str) -> None:
    for path in ("/api/events/out", "/api/events/in", "/api/logs/out", "//api/events/out", "/ws/objectManager", "/"):
        for forged in ((), *FORGED):
            headers = [*UPGRADE, *(pair for pair in forged if pair[0] != "Connection")]
            assert kept_out(front, front.ask(host, path, headers)), (path, forged)


@pytest.mark.parametrize("host", PEOPLE_ONLY)
def test_http2_leads_nowhere_else(front: FrontDoor, host: str) -> None:
    served = 0
    with front.client(http2=True) as client:
        for path in PATHS:
            asked = client.build_request("GET", front.url(host), extensions={"target": path.encode()})
            try:
                response = client.send(asked)
            except httpx.RemoteProtocolError:
                continue  # Caddy takes it for no request at all.
            assert response.http_version == "HTTP/2"
            served += 1
            assert kept_out(front, Answer(response.status_code, response.headers, response.content)), path
    assert served > len(PATHS) - 5


def test_http_leads_to_https_and_its_port(front: FrontDoor) -> None:
    for host in EVERY_HOST:
        with front.client() as client:
            response = client.get(f"http://{front.host(host)}:{HTTP_PORT}/a?b=c")
        assert response.status_code == 308
        assert response.headers["location"] == f"{front.url(host)}/a?b=c"


def test_a_name_that_is_not_served_has_no_certificate(front: FrontDoor) -> None:
    with (
        socket.create_connection((ADDRESS, PORT), 10) as plain,
        pytest.raises(ssl.SSLError),
        front.trust.wrap_socket(plain, server_hostname=f"elsewhere.{DOMAIN}"),
    ):
        pytest.fail("it was served")


# Who may log in.


@pytest.mark.parametrize(("user", "password"), [("ada", "wrong"), ("nobody", PASSWORD), ("disabled", PASSWORD)])
def test_who_may_not_log_in(front: FrontDoor, user: str, password: str) -> None:
    with front.client() as client:
        assert front.first_factor(client, user, password).status_code == 401
        for host in PEOPLE_ONLY:
            assert client.get(front.url(host)).status_code == 302


def test_who_is_outside_the_group_sees_nothing(front: FrontDoor) -> None:
    with front.log_in("outside") as client:
        for host in PEOPLE_ONLY:
            for path in ("/", "/api/health", "/ui-settings", "//", "/%2e/"):
                response = client.get(front.url(host) + path)
                assert response.status_code == 403, path
                assert response.content in {b"", b"403 Forbidden"}


def test_guessing_is_throttled(front: FrontDoor) -> None:
    with front.client() as client:
        for number in range(6):
            assert front.first_factor(client, "guessed", f"guess {number}").status_code == 401
        assert front.first_factor(client, "guessed", PASSWORD).status_code == 401, "the right one comes too late"
        # Nor does any other way in take it, as the portal's own does not now.
        for path in ("/api/verify?auth=basic", "/api/verify", "/api/authz/forward-auth", "/api/authz/auth-request"):
            guess = {"Authorization": "Basic " + base64.b64encode(f"guessed:{PASSWORD}".encode()).decode()}
            headers = guess | {"Proxy-Authorization": guess["Authorization"], "X-Original-URL": front.url("tasks")}
            assert client.get(front.url("auth") + path, headers=headers).status_code != 200, path
    with front.log_in("ada") as client:
        assert client.get(front.url("tasks")).status_code != 302, "others are not kept out with it"


def test_a_log_in_opens_all_hosts_until_the_log_out(front: FrontDoor) -> None:
    with front.log_in() as client:
        settings = client.get(f"{front.url('tasks')}/ui-settings")
        assert settings.status_code == 200
        assert settings.headers["content-type"].startswith("application/json")
        assert settings.json()["auth"] is None, "nobody is asked a second time"
        assert client.get(f"{front.url('tasks')}/api/admin/version").status_code == 200
        deployments = client.post(f"{front.url('tasks')}/api/deployments/filter", json={})
        assert "test-deployment" in {each["name"] for each in deployments.raise_for_status().json()}
        assert b"MinIO" in client.get(front.url("storage-console")).content
        targets = client.get(f"{front.url('metrics')}/api/v1/targets?state=active").raise_for_status().json()
        assert "prefect-server" in {each["labels"]["job"] for each in targets["data"]["activeTargets"]}
        kept = client.cookies[front.session]
        assert client.post(f"{front.url('auth')}/api/logout", json={}).status_code == 200
        for host in PEOPLE_ONLY:
            assert client.get(front.url(host)).status_code == 302
    with front.client() as thief:
        for host in PEOPLE_ONLY:
            assert thief.get(front.url(host), headers={"Cookie": f"{front.session}={kept}"}).status_code == 302


def test_invented_sessions_are_nobodys_and_disturb_nobody(front: FrontDoor) -> None:
    """Somebody outside sends cookies as long as real ones, while others log in and out."""
    invented = [(("Cookie", f"{front.session}={letter * 32}"),) for letter in "ax"]
    for _ in range(3):
        with front.log_in() as client:
            for host in (*PEOPLE_ONLY, "auth"):
                for cookie in invented:
                    answer = front.ask(host, "/api/state", cookie)
                    level = b'"authentication_level":0'
                    assert level in answer.body if host == "auth" else sent_to_the_portal(front, answer)
                    assert client.get(f"{front.url('tasks')}/api/admin/version").status_code == 200
            assert client.post(f"{front.url('auth')}/api/logout", json={}).status_code == 200
            assert client.get(f"{front.url('tasks')}/api/admin/version").status_code == 302


def test_many_log_in_at_a_time(front: FrontDoor) -> None:
    def seen(number: int) -> int:
        with front.log_in() as client:
            answers = [client.get(f"{front.url('tasks')}/api/admin/version").status_code for _ in range(10)]
        assert set(answers) == {200}, f"client {number}: {answers}"
        return len(answers)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(seen, range(12))) == 120


def test_the_session_is_for_the_domain_and_for_no_script(front: FrontDoor) -> None:
    with front.client() as client:
        cookie = front.first_factor(client, "ada", PASSWORD).headers["set-cookie"]
    name, *attributes = (part.strip().lower() for part in cookie.split(";"))
    assert name.startswith(f"{front.session}=")
    assert {"secure", "httponly", "samesite=lax"} <= set(attributes)
    assert f"domain={DOMAIN}" in {each.replace("domain=.", "domain=") for each in attributes}


def test_another_sites_page_changes_nothing(front: FrontDoor) -> None:
    """The cookie comes along from pages of hosts beside it, such as one that somebody put into a bucket."""
    with front.log_in() as client:
        for site in ("same-site", "cross-site"):
            for host in PEOPLE_ONLY:
                sent = client.post(f"{front.url(host)}/api/flows/filter", headers={"Sec-Fetch-Site": site})
                assert sent.status_code == 403
            headers = dict(UPGRADE) | {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "websocket"}
            assert client.get(f"{front.url('tasks')}/api/events/out", headers=headers).status_code == 403
        own = client.post(f"{front.url('tasks')}/api/flows/filter", json={}, headers={"Sec-Fetch-Site": "same-origin"})
        assert own.status_code == 200


# What is sent.


def test_pages_say_what_browsers_may_do_with_them(front: FrontDoor) -> None:
    with front.log_in() as client:
        for host in (*PEOPLE_ONLY, "auth"):
            page = client.get(f"{front.url(host)}/", follow_redirects=True)
            assert (page.status_code, page.url.host) == (200, front.host(host))
            headers = page.headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] in {"SAMEORIGIN", "DENY"}
            assert headers["referrer-policy"] in {"same-origin", "strict-origin-when-cross-origin"}
            assert "server" not in headers
        policy = client.get(f"{front.url('tasks')}/v2/").headers["content-security-policy"]
        assert "connect-src 'self'" in policy


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_what_is_long_is_compressed(front: FrontDoor, coding: str) -> None:
    with front.log_in() as client:
        asked = {"Accept-Encoding": coding}
        with client.stream("GET", f"{front.url('tasks')}/api/openapi.json", headers=asked) as response:
            assert response.headers["content-encoding"] == coding
            assert response.status_code == 200


def test_people_are_served_over_http2(front: FrontDoor) -> None:
    with front.client(http2=True) as client:
        front.first_factor(client, "ada", PASSWORD).raise_for_status()
        response = client.get(f"{front.url('tasks')}/api/admin/version")
        assert (response.status_code, response.http_version) == (200, "HTTP/2")


@pytest.fixture(name="echoed")
def _echoed(front: FrontDoor, tmp_path: Path) -> Iterator[FrontDoor]:
    """The stack's Caddy once more, with its own routes, before servers that tell what they are sent."""
    network, proxy, echo = (front.env.name(f"test-{name}") for name in ("net", "caddy", "echo"))
    address = "127.0.0.78"
    for file in ("etc/caddy/Caddyfile", "root/prefect-api-authorization"):
        docker("cp", f"{front.env.name('caddy')}:/{file}", str(tmp_path))
    servers = {"authelia": "9091", "prefect-server": "4200", "minio": "9000", "prometheus": "9090"}
    aliases = [f"--network-alias={alias}" for name in servers for alias in (name, front.env.name(name))]
    program = (ROOT / "tests" / "e2e" / "echo.py").read_text()
    docker("network", "create", network)
    try:
        docker(
            *("run", "--detach", "--name", echo, "--network", network, *aliases, "--entrypoint", "python"),
            *(front.env.image("prefect"), "-c", program, *servers.values(), "9001"),
        )
        published = f"{address}:{PORT}:{PORT}"
        docker("create", "--name", proxy, "--network", network, "--publish", published, front.env.image("caddy"))
        docker("cp", str(tmp_path / "Caddyfile"), f"{proxy}:/etc/caddy/Caddyfile")
        docker("cp", str(tmp_path / "prefect-api-authorization"), f"{proxy}:/root/prefect-api-authorization")
        docker("start", proxy)
        eventually(lambda: "certificate obtained" in docker("logs", proxy, ok=False), 30)
        authority = tmp_path / "authority.crt"
        root = "/data/caddy/pki/authorities/local/root.crt"
        authority.write_text(eventually(lambda: docker("exec", proxy, "cat", root, ok=False), 10) + "\n")
        yield FrontDoor(front.env, authority, address)
    finally:
        docker("rm", "--force", "--volumes", proxy, echo, ok=False)
        docker("network", "rm", network, ok=False)


def test_who_is_told_what(front: FrontDoor, echoed: FrontDoor) -> None:
    """No forged header arrives, and each credential reaches the one server that it is for."""
    credential = "Basic " + base64.b64encode(front.env.secret("prefect_api_auth_string").encode()).decode()
    forged = [
        *((name, "forged") for name in IDENTITY),
        *((name, f"https://auth.{DOMAIN}/forged") for name in ("X-Original-URL", "X-Original-Method")),
        *(("X-Forwarded-Host", "forged"), ("X-Forwarded-Uri", "/forged"), ("X-Forwarded-Method", "FORGED")),
        *(("X-Forwarded-Proto", "forged"), ("X-Forwarded-For", "203.0.113.1")),
        *(("Authorization", "Basic forged"), ("Proxy-Authorization", "Basic forged")),
        ("Cookie", f"{SESSION}=theirs; other=1"),
    ]
    # Caddy is up once the last of its hosts answers.
    eventually(lambda: all(_answers(echoed, host) for host in EVERY_HOST), 30)
    before = len(docker("logs", front.env.name("test-echo")).splitlines())
    for host in EVERY_HOST:
        assert echoed.ask(host, "/api/a?b=c", forged, method="POST").status == 200
    lines = docker("logs", front.env.name("test-echo")).splitlines()[before:]
    seen = [json.loads(line) for line in lines]

    def sent(port: int, below: str = "/") -> list[dict[str, str]]:
        chosen = [each for each in seen if each["port"] == port and each["path"].startswith(below)]
        return [{name.lower(): value for name, value in each["headers"]} for each in chosen]

    asked = sent(9091, "/api/verify")
    assert [each["x-forwarded-host"] for each in asked] == [f"{echoed.host(host)}:{PORT}" for host in PEOPLE_ONLY]
    for each in asked:
        assert (each["x-forwarded-method"], each["x-forwarded-uri"]) == ("POST", "/api/a?b=c")
        assert each["x-forwarded-proto"] == "https"
        assert "203.0.113.1" not in each["x-forwarded-for"]
        assert not {"authorization", "proxy-authorization", "x-original-url", *IDENTITY} & each.keys()
    for each in sent(9091):
        assert credential not in each.values()
        assert "Basic forged" not in each.values()
    [ui] = [each for each in sent(4200) if each["x-forwarded-host"].startswith(echoed.host("tasks") + ":")]
    assert (ui["remote-user"], ui["authorization"]) == ("known", credential)
    assert not {"remote-groups", "remote-name", "remote-email", "proxy-authorization"} & ui.keys()
    [machine] = [each for each in sent(4200) if each != ui]
    assert machine["authorization"] == "Basic forged", "what the client said, for Prefect to judge"
    assert "cookie" not in machine
    [console] = sent(9001)
    assert console["remote-user"] == "known"
    assert not {"authorization", "remote-groups", "proxy-authorization"} & console.keys()
    [prometheus] = sent(9090)
    assert prometheus["remote-user"] == "known"
    assert not {"authorization", "remote-groups", "proxy-authorization"} & prometheus.keys()
    [store] = sent(9000)
    assert store["authorization"] == "Basic forged"
    assert store["host"] == f"{echoed.host('storage')}:{PORT}", "what S3 clients sign"
    assert "cookie" not in store
    assert credential not in {*console.values(), *prometheus.values(), *store.values()}


def _answers(front: FrontDoor, host: str) -> bool:
    try:
        front.ask(host, "/api/ready")
    except OSError:
        return False
    return True


# Machines.


def test_the_api_of_machines_wants_its_own_credential(front: FrontDoor) -> None:
    user, _, password = front.env.secret("prefect_api_auth_string").partition(":")
    url = front.url("tasks-api")
    with front.client() as client:
        assert client.get(f"{url}/api/admin/version").status_code == 401
        assert client.get(f"{url}/api/admin/version", auth=(user, "wrong")).status_code == 401
        assert client.get(f"{url}/api/admin/version", auth=("ada", PASSWORD)).status_code == 401
        assert client.get(f"{url}/api/admin/version", auth=(user, password)).json() == "3.8.8"
        for path in (
            "/",
            "/v2/",
            "/docs",
            "/openapi.json",
            "/ui-settings",
            "/apix",
            "/v2/../ui-settings",
            "//ui-settings",
        ):
            asked = client.build_request("GET", url, extensions={"target": path.encode()})
            response = client.send(asked, auth=(user, password))
            assert response.status_code == 404, path
    with front.log_in() as client:
        assert client.get(f"{url}/api/admin/version").status_code == 401, "a session is no credential"
        assert client.get(f"{url}/api/admin/version", headers={"Remote-User": "ada"}).status_code == 401
        basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        client.cookies.clear()
        for host in PEOPLE_ONLY:
            kept = client.get(f"{front.url(host)}/api/admin/version", headers={"Authorization": basic})
            assert kept.status_code in {302, 401}, "a credential is no session"


def test_prefects_client_hears_events_and_logs(front: FrontDoor) -> None:
    listen = [str(front.env.root / ".venv" / "bin" / "python"), "tests/e2e/listen.py"]
    heard = front.run(*listen, credential=front.env.secret("prefect_api_auth_string"))
    assert heard.code == 0, heard.text
    assert "events: front-door." in heard.text
    assert "logs: listening" in heard.text
    refused = front.run(*listen, credential="admin:wrong")
    assert refused.code
    assert "events:" not in refused.text


def test_smoke_through_the_front_door(front: FrontDoor) -> None:
    smoke = ["scripts/smoke", "--api-url", f"{front.url('tasks-api')}/api"]
    done = front.run(*smoke, credential=front.env.secret("prefect_api_auth_string"))
    assert done.code == 0, done.text
    assert "greetings/test-deployment is Completed" in done.text
    for credential in (None, "admin:wrong"):
        refused = front.run(*smoke, credential=credential)
        assert refused.code
        assert "401" in refused.text
        assert "PREFECT_API_AUTH_STRING" in refused.text
        assert "Traceback" not in refused.text


# S3.

BIG: Final = 200 * 2**20
PART: Final = 20 * 2**20


def boto(front: FrontDoor, secret: str | None = None) -> Any:
    """boto3's client, as MinIO's administrator."""
    return boto3.client(
        "s3",
        endpoint_url=front.url("storage"),
        region_name="us-east-1",
        aws_access_key_id="minio-root",
        aws_secret_access_key=secret or front.env.secret("minio_root_password"),
        verify=str(front.authorities),
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


@pytest.fixture(name="bucket")
def _bucket(front: FrontDoor) -> Iterator[str]:
    s3, name = boto(front), f"front-{secrets.token_hex(4)}"
    s3.create_bucket(Bucket=name)
    yield name
    for each in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=each["Key"])
    s3.delete_bucket(Bucket=name)


def test_boto3_puts_gets_lists_and_deletes(front: FrontDoor, bucket: str) -> None:
    s3 = boto(front)
    for key in ("a.txt", "with space/ą+%2f.txt"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"small")
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"small"
        url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=60)
        with front.client() as client:
            assert client.get(url).content == b"small"
            assert client.get(url.replace("X-Amz-Signature=", "X-Amz-Signature=0")).status_code == 403
            assert client.get(url.partition("?")[0]).status_code == 403
    put = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "put"}, ExpiresIn=60)
    with front.client() as client:
        assert client.put(put, content=b"by url").status_code == 200
    listed = {each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert listed == {"a.txt", "with space/ą+%2f.txt", "put"}
    s3.delete_object(Bucket=bucket, Key="a.txt")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key="a.txt")


def test_a_wrong_key_is_refused(front: FrontDoor, bucket: str) -> None:
    s3 = boto(front, "wrong-secret")
    for refused in (
        s3.list_buckets,
        lambda: s3.put_object(Bucket=bucket, Key="a.txt", Body=b"small"),
        lambda: s3.get_object(Bucket=bucket, Key="a.txt"),
    ):
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            refused()


def test_boto3_puts_and_gets_in_parts(front: FrontDoor, bucket: str, tmp_path: Path) -> None:
    s3, big, back = boto(front), tmp_path / "big", tmp_path / "back"
    with big.open("wb") as out:
        for _ in range(BIG // PART):
            out.write(os.urandom(PART))
    in_parts = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
    s3.upload_file(str(big), bucket, "big", Config=in_parts)
    head = s3.head_object(Bucket=bucket, Key="big")
    assert head["ContentLength"] == BIG
    assert head["ETag"].endswith(f'-{BIG // PART}"')
    s3.download_file(bucket, "big", str(back), Config=in_parts)
    assert _digest(back) == _digest(big)


def test_s3fs_puts_gets_lists_and_deletes(front: FrontDoor, bucket: str) -> None:
    def files(secret: str) -> Any:
        return s3fs.S3FileSystem(
            key="minio-root", secret=secret, endpoint_url=front.url("storage"), skip_instance_cache=True,
            client_kwargs={"verify": str(front.authorities), "region_name": "us-east-1"},
        )  # fmt: skip

    known = files(front.env.secret("minio_root_password"))
    path = f"{bucket}/deep/er/big"
    content = os.urandom(24 * 2**20)
    with known.open(path, "wb", block_size=8 * 2**20) as out:
        out.write(content)
    assert known.cat(path) == content
    assert known.find(bucket) == [path]
    with front.client() as client:
        assert client.get(known.sign(path, expiration=60)).content == content
    known.rm(path)
    assert not known.exists(path)
    with pytest.raises(PermissionError):
        files("wrong-secret").ls(bucket)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def test_a_browser_on_storage_ends_at_the_portal_of_the_console(front: FrontDoor) -> None:
    browser = {"User-Agent": "Mozilla/5.0", "Accept": "text/html"}
    with front.client() as client:
        response = client.get(front.url("storage"), headers=browser)
        assert response.headers["location"].startswith(front.url("storage-console"))
        final = client.get(front.url("storage"), headers=browser, follow_redirects=True)
        assert final.url.host == front.host("auth")


# What is written down.


def test_logs_hold_no_credential(front: FrontDoor) -> None:
    known = [front.env.secret("prefect_api_auth_string").partition(":")[2], PASSWORD]
    for name in ("caddy", "authelia", "prefect-server", "minio"):
        done = subprocess.run(
            ["docker", "logs", front.env.name(name)], capture_output=True, text=True, timeout=60, check=True
        )
        said = done.stdout + done.stderr
        assert not [secret for secret in known if secret in said], name


def test_the_log_in_stays_when_caddy_starts_again(front: FrontDoor) -> None:
    with front.log_in() as client:
        docker("restart", front.env.name("caddy"))
        end = time.monotonic() + 30
        while not _answers(front, "tasks"):
            assert time.monotonic() < end
            time.sleep(0.5)
        assert client.get(f"{front.url('tasks')}/api/admin/version").status_code == 200


def test_a_rotation_ends_every_log_in_and_no_run(front: FrontDoor) -> None:
    env, page = front.env, f"{front.url('tasks')}/api/admin/version"
    deployment = env.http(f"/deployments/name/{TICKING}/often")["id"]
    ticking = env.http(f"/deployments/{deployment}/create_flow_run", {})
    with front.log_in() as client:
        assert client.get(page).status_code == 200
        env.run("scripts/rotate", "authelia", "--stack", env.stack, "--yes")
        assert client.get(page).status_code in {302, 303, 401}
    with front.log_in() as client:
        assert client.get(page).status_code == 200
    assert env.followed(ticking["id"])["state_type"] == "COMPLETED"
