"""A stack whose routes go into a Caddy, and behind an Authelia, that somebody else runs; and the same over ssh."""

from __future__ import annotations

import base64
import secrets
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import argon2
import httpx
import pytest
import urllib3
import yaml

from providers.caddy.site_file import MARK, SiteFileProvider
from providers.connection import EngineConnection
from providers.ssh import ssh_host
from tests.e2e.environment import NAMESPACE, Environment, docker, environment, eventually
from tests.e2e.hosts import Host, hosts
from tests.e2e.names.sitecustomize import lead_below
from tests.integration.harness import OWNER, Engine, Props, failing, fresh_process
from tests.integration.images import image

__all__ = ["fresh_process"]

pytestmark = pytest.mark.xdist_group("outer")

DOMAIN: Final = "outer.test"
ADDRESS: Final = "127.0.0.78"
PORT: Final = 8443
HTTP_PORT: Final = 8080
NETWORK: Final = "outer-caddy-network"
CADDY: Final = "outer-caddy"
AUTHELIA: Final = "outer-authelia"
PORTAL: Final = f"https://whoareyou.{DOMAIN}:{PORT}"
PASSWORD: Final = "correct horse battery staple"
CERTIFICATE_SECONDS: Final = 60
SNIPPET: Final = "sites/prefect.caddy"
PROXY: Final[dict[str, Any]] = {"mode": "external", "domain": DOMAIN, "https_port": PORT}
WRITTEN: Final[dict[str, Any]] = {**PROXY, "external": {"container": CADDY}}
CADDYFILE: Final = f"""
{{
	http_port {HTTP_PORT}
	https_port {PORT}
	local_certs
	skip_install_trust
}}
whoareyou.{DOMAIN} {{
	reverse_proxy {AUTHELIA}:9091
}}
theirs.{DOMAIN} {{
	respond "theirs"
}}
import /etc/caddy/sites/*.caddy
"""
AUTHELIA_CONFIGURATION: Final = {
    "jwt_secret": "their-token-secret",
    "default_redirection_url": f"https://theirs.{DOMAIN}:{PORT}/",
    "server": {"host": "0.0.0.0", "port": 9091},  # noqa: S104 - in its container
    "ntp": {"disable_startup_check": True},
    "authentication_backend": {"file": {"path": "/config/users.yml"}},
    "access_control": {
        "default_policy": "deny",
        "rules": [{"domain": [f"tasks.{DOMAIN}", f"storage-console.{DOMAIN}"], "policy": "one_factor"}],
    },
    "session": {"secret": "their-session-secret", "domain": DOMAIN},
    "storage": {"encryption_key": "their-encryption-key-of-some-length", "local": {"path": "/config/db.sqlite3"}},
    "notifier": {"filesystem": {"filename": "/config/notifications.txt"}},
}


@dataclass(frozen=True)
class Outer:
    env: Environment
    directory: Path
    """Caddy's configuration."""
    trust: ssl.SSLContext

    @property
    def snippet(self) -> Path:
        return self.directory / SNIPPET

    def url(self, label: str) -> str:
        return f"https://{label}.{DOMAIN}:{PORT}"

    def client(self) -> httpx.Client:
        """A client without a session."""
        return httpx.Client(verify=self.trust, timeout=30, trust_env=False)

    def first_factor(self, client: httpx.Client, password: str) -> int:
        """What the portal's page sends."""
        said = {"username": "ada", "password": password, "keepMeLoggedIn": False}
        return client.post(f"{PORTAL}/api/firstfactor", json=said).status_code

    def get(self, label: str, path: str = "/", client: httpx.Client | None = None) -> httpx.Response:
        """The answer to a person or, without a session, to anybody."""
        if client:
            return client.get(f"{self.url(label)}{path}")
        with self.client() as nobody:
            return nobody.get(f"{self.url(label)}{path}")

    def leads_to_the_portal(self) -> bool:
        """Whether tasks is served; a Caddy that has just read of a name has no certificate for it at once."""
        try:
            return self.get("tasks").is_redirect
        except httpx.TransportError:
            return False

    def reload(self) -> None:
        docker("exec", CADDY, "caddy", "reload", "--config", "/etc/caddy/Caddyfile")

    def _as_a_browser(self, label: str) -> str:
        """A page, asked for once more where the connection was closed without an answer: a reload may do that."""
        try:
            return self.get(label).text
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return self.get(label).text

    @contextmanager
    def theirs_goes_on(self) -> Iterator[None]:
        """Their own site is served at every moment of the block."""
        ends, seen = threading.Event(), set[str]()

        def look() -> None:
            while not ends.is_set():
                try:
                    seen.add(self._as_a_browser("theirs"))
                except httpx.HTTPError as error:
                    seen.add(repr(error))
                ends.wait(0.1)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join(60)
        assert seen == {"theirs"}


@pytest.fixture(scope="module", name="outer")
def _outer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outer]:
    lead_below(DOMAIN, ADDRESS)
    directory = tmp_path_factory.mktemp("outer")
    with theirs(directory) as trust:
        auth = {"mode": "external", "external": {"address": f"{AUTHELIA}:9091", "portal": f"{PORTAL}/"}}
        networks = {"caddy": {"external": NETWORK}}
        for env in environment(directory, "outer", 1900, networks=networks, proxy=PROXY, auth=auth):
            yield Outer(env, directory / "caddy", trust)


@contextmanager
def theirs(directory: Path) -> Iterator[ssl.SSLContext]:
    """A Caddy and an Authelia with a network of their own; trust in that Caddy's authority."""
    caddy, authelia = directory / "caddy", directory / "authelia"
    (caddy / "sites").mkdir(parents=True)
    (caddy / "Caddyfile").write_text(CADDYFILE)
    authelia.mkdir()
    users = {"ada": {"displayname": "Ada", "password": argon2.PasswordHasher().hash(PASSWORD), "email": "ada@x.test"}}
    (authelia / "configuration.yml").write_text(yaml.safe_dump(AUTHELIA_CONFIGURATION))
    (authelia / "users.yml").write_text(yaml.safe_dump({"users": users}))
    images = {AUTHELIA: image("authelia"), CADDY: image("caddy")}
    remove = [("rm", "--force", "--volumes", AUTHELIA, CADDY), ("network", "rm", NETWORK)]
    for words in remove:
        docker(*words, ok=False)
    docker("network", "create", NETWORK)
    try:
        run = ["run", "--detach", "--network", NETWORK]
        docker(*run, "--name", AUTHELIA, "--volume", f"{authelia}:/config", images[AUTHELIA])
        publish = ["--publish", f"{ADDRESS}:{PORT}:{PORT}"]
        docker(*run, "--name", CADDY, *publish, "--volume", f"{caddy}:/etc/caddy", images[CADDY])
        root = "/data/caddy/pki/authorities/local/root.crt"
        eventually(lambda: docker("exec", CADDY, "cat", root, ok=False).startswith("-----BEGIN"), 30)
        pem = docker("exec", CADDY, "cat", root)
        yield ssl.create_default_context(cadata=pem)
    finally:
        for words in remove:
            docker(*words, ok=False)


def secret_of(env: Environment, output: str) -> str:
    return env.pulumi("stack", "output", output, "--show-secrets").text.strip()


def basic(env: Environment) -> str:
    """The credential as it stands in the routes."""
    return base64.b64encode(secret_of(env, "prefect_api_auth_string").encode()).decode()


# On this machine's engine.


def test_the_routes_are_an_output_for_those_who_put_them_there_by_hand(outer: Outer) -> None:
    env = outer.env
    env.up()
    assert list(outer.snippet.parent.iterdir()) == []
    assert env.outputs()["caddyfile"] == "[secret]"
    by_hand = outer.snippet.with_name("by-hand.caddy")
    by_hand.write_text(secret_of(env, "caddyfile") + "\n")
    try:
        outer.reload()
        eventually(outer.leads_to_the_portal, CERTIFICATE_SECONDS)
    finally:
        by_hand.unlink()
        outer.reload()


def test_the_stack_writes_them_and_caddy_serves_them(outer: Outer) -> None:
    env = outer.env
    env.write_settings(proxy=WRITTEN)
    with outer.theirs_goes_on():
        env.apply()
    first, text = outer.snippet.read_text().split("\n", 1)
    assert first == f"{MARK}{NAMESPACE}/{env.stack}"
    assert text.strip() == secret_of(env, "caddyfile")
    assert outer.snippet.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in outer.snippet.parent.iterdir()] == [outer.snippet.name]
    assert basic(env) not in str(env.exported())
    env.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")


def test_people_come_in_by_the_portal(outer: Outer) -> None:
    for label in ("tasks", "storage-console"):
        answer = outer.get(label, "/dashboard?x=1")
        assert answer.status_code == 302
        asked = urlsplit(answer.headers["location"])
        assert f"{asked.scheme}://{asked.netloc}" == PORTAL
        assert parse_qs(asked.query)["rd"] == [f"{outer.url(label)}/dashboard?x=1"]
    with outer.client() as client:
        assert outer.first_factor(client, "wrong") == 401
        assert outer.get("tasks", "/api/admin/version", client).is_redirect
        assert outer.first_factor(client, PASSWORD) == 200
        assert outer.get("tasks", "/api/admin/version", client).json()
        assert "MinIO Console" in outer.get("storage-console", "/", client).text


def test_machines_come_in_with_a_credential(outer: Outer) -> None:
    version = f"{outer.url('tasks-api')}/api/admin/version"
    with outer.client() as client:
        assert client.get(version).status_code == 401
        user, _, password = secret_of(outer.env, "prefect_api_auth_string").partition(":")
        assert client.get(version, auth=(user, password)).json()
    assert "AccessDenied" in outer.get("storage", "/flows/").text


def test_a_file_that_was_removed_is_written_again(outer: Outer) -> None:
    text = outer.snippet.read_text()
    outer.snippet.unlink()
    outer.reload()
    outer.env.apply("--refresh")
    assert outer.snippet.read_text() == text
    eventually(outer.leads_to_the_portal, CERTIFICATE_SECONDS)


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ({"https_port": HTTP_PORT}, f"[https://tasks.{DOMAIN}:{HTTP_PORT}] scheme and port violate convention"),
        ({"storage": "theirs"}, f"/etc/caddy/Caddyfile has routes of its own for theirs.{DOMAIN}"),
    ],
)
def test_routes_that_are_refused_change_nothing(outer: Outer, mistake: dict[str, Any], said: str) -> None:
    env, before = outer.env, outer.snippet.read_text()
    version = "/api/admin/version"
    with outer.client() as client, outer.theirs_goes_on():
        assert outer.first_factor(client, PASSWORD) == 200
        env.write_settings(proxy={**WRITTEN, **mistake})
        text = env.apply(ok=False).text
        assert said in text
        assert f"/etc/caddy/{SNIPPET} is as it was" in text
        assert basic(env) not in text
        assert outer.snippet.read_text() == before
        assert [path.name for path in outer.snippet.parent.iterdir()] == [outer.snippet.name]
        # The server may have been made anew for its own new URL.
        eventually(lambda: outer.get("tasks", version, client).status_code == 200, 60)
        assert "AccessDenied" in outer.get("storage", "/flows/").text
        env.write_settings(proxy=WRITTEN)
        env.apply()
        eventually(lambda: outer.get("tasks", version, client).status_code == 200, 60)
    assert outer.snippet.read_text() == before
    env.pulumi("preview", "--expect-no-changes", "--non-interactive")


def test_a_stack_that_goes_takes_its_routes_along_and_no_others(outer: Outer) -> None:
    with outer.theirs_goes_on():
        outer.env.down()
    assert list(outer.snippet.parent.iterdir()) == []
    with pytest.raises(httpx.ConnectError):  # Caddy has no certificate for it any more.
        outer.get("tasks")
    assert httpx.get(f"{PORTAL}/api/health", verify=outer.trust, trust_env=False).json() == {"status": "OK"}


# On an engine over ssh.


def site(host: str, text: str) -> str:
    return f"http://{host}:8080 {{\n\trespond `{text}`\n}}\n"


def answered(host: Host, name: str) -> str:
    """What the Caddy on a host answers, past ssh."""
    url = f"http://{host.private_address}:8080/"
    answer = urllib3.request("GET", url, headers={"Host": name, "Connection": "close"}, timeout=5)
    return answer.data.decode()


def start_caddy(host: Host) -> None:
    """Start a Caddy on a host, with a site of its own."""
    with subprocess.Popen(["docker", "save", image("caddy")], stdout=subprocess.PIPE) as saved:
        subprocess.run(
            ["docker", "exec", "--interactive", host.container, "docker", "load"],
            stdin=saved.stdout, check=True, timeout=300, capture_output=True,
        )  # fmt: skip
    text = f"{site('theirs.test', 'theirs')}import sites/*.caddy\n"
    host.run("sh", "-c", f"mkdir /srv/caddy && printf '%s' '{text}' > /srv/caddy/Caddyfile")
    run = ["run", "--detach", "--name", "caddy", "--publish", "8080:8080", "--volume", "/srv/caddy:/etc/caddy"]
    host.docker(*run, image("caddy"))
    eventually(lambda: "serving initial configuration" in host.docker("logs", "caddy"), 30)


def test_it_is_the_same_over_ssh(tmp_path: Path) -> None:
    with hosts(tmp_path, "proxy") as [host]:
        start_caddy(host)
        secret = secrets.token_hex(12)
        via = ssh_host(host.address, host.ssh_options)
        program: Props = {
            "owner": OWNER,
            "adopt": False,
            "connection": EngineConnection(server="host", url=host.address, via=via),
            "container": "caddy",
            "path": "/etc/caddy/sites/prefect.caddy",
            "caddyfile": "/etc/caddy/Caddyfile",
            "content": site("tasks.test", secret),
            "hosts": ["tasks.test"],
            "credentials": [secret],
        }
        engine = Engine(SiteFileProvider())
        assert engine.up(program) == "create"
        assert (answered(host, "tasks.test"), answered(host, "theirs.test")) == (secret, "theirs")
        assert engine.refresh() == "same"
        assert engine.up(program) == "same"
        broken = program | {"content": site("tasks.test", "x").replace("respond", f"`{secret}`")}
        assert "unrecognized directive: [secret]" in failing(lambda: engine.up(broken), secret)
        assert answered(host, "tasks.test") == secret
        # What Caddy says of its own connections is not taken for ssh's words.
        host.run("sed", "-i", "1i {\\n\\tadmin localhost:2999\\n}", "/srv/caddy/Caddyfile")
        newer = program | {"content": site("tasks.test", "newer")}
        text = failing(lambda: engine.up(newer))
        assert "Caddy runs without its admin API" in text
        assert answered(host, "tasks.test") == secret
        host.docker("restart", "caddy")
        eventually(lambda: host.docker("logs", "caddy").count("serving initial configuration") == 2, 30)
        assert engine.up(newer) == "update"
        assert answered(host, "tasks.test") == "newer"
        engine.destroy()
        assert (answered(host, "tasks.test"), answered(host, "theirs.test")) == ("", "theirs")
        host.run("kill", "-STOP", host.run("cat", "/run/sshd.pid"))
        assert f"{host.address}: the host does not answer over ssh" in failing(lambda: engine.up(program))
        host.run("kill", "-CONT", host.run("cat", "/run/sshd.pid"))
