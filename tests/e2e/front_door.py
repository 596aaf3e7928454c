"""A stack behind its front door: real Caddy and Authelia, hosts below `front.test` on a loopback address."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import httpx

from scripts.lib.user_entry import HASHER
from tests.e2e.environment import NAMESPACE, ROOT, Done, Environment, docker, environment, run, shipped
from tests.e2e.names.sitecustomize import lead_below

DOMAIN: Final = "front.test"
ADDRESS: Final = "127.0.0.77"
OFFSET: Final = 1500
PORT: Final = 443 + OFFSET
HTTP_PORT: Final = 80 + OFFSET
GROUP: Final = "engineers"
PASSWORD: Final = "correct horse battery staple"
USERS: Final[dict[str, dict[str, Any]]] = {
    "ada": {"display_name": "Ada Lovelace", "groups": [GROUP]},
    "disabled": {"groups": [GROUP], "disabled": True},
    "outside": {"groups": ["guests"]},
    "guessed": {"groups": [GROUP]},
}
TICKING: Final = "ticking"
"""A flow that logs a line each second for a minute."""
TICKS: Final = """
import time

from prefect import flow


@flow(log_prints=True)
def ticking() -> None:
    for number in range(60):
        print(f"tick {number}")
        time.sleep(1)
"""
NAMES: Final = Path(__file__).parent / "names"


@dataclass(frozen=True)
class Answer:
    """What a host answers to a request as it is."""

    status: int
    headers: httpx.Headers
    body: bytes


@dataclass(frozen=True)
class FrontDoor:
    """The stack, and its hosts as seen from outside."""

    env: Environment
    authorities: Path
    """PEM file of the proxy's own authority, which signs its certificates."""
    address: str = ADDRESS

    def host(self, label: str) -> str:
        """A host's name, without its port."""
        return f"{label}.{DOMAIN}"

    def url(self, label: str) -> str:
        """A host's URL."""
        return f"https://{self.host(label)}:{PORT}"

    @property
    def session(self) -> str:
        """Name of the cookie."""
        return self.env.name("session")

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """Trust in the proxy's authority, and nobody else."""
        return ssl.create_default_context(cafile=str(self.authorities))

    def client(self, *, http2: bool = False) -> httpx.Client:
        """A client without a session."""
        return httpx.Client(verify=self.trust, http2=http2, timeout=30, trust_env=False)

    @contextmanager
    def log_in(self, user: str = "ada", password: str = PASSWORD) -> Iterator[httpx.Client]:
        """A client with the user's session."""
        with self.client() as client:
            self.first_factor(client, user, password).raise_for_status()
            yield client

    def first_factor(self, client: httpx.Client, user: str, password: str) -> httpx.Response:
        """What the portal's page sends when a name and a password are entered."""
        said = {"username": user, "password": password, "keepMeLoggedIn": False}
        return client.post(f"{self.url('auth')}/api/firstfactor", json=said)

    def ask(
        self, label: str, target: str = "/", headers: Sequence[tuple[str, str]] = (), *,
        method: str = "GET", version: str = "HTTP/1.1", host: str | None = None,
    ) -> Answer:  # fmt: skip
        """Send a request just as it is given, as a browser that wants a page; `host` is what its Host says."""
        said = [("Host", host or f"{self.host(label)}:{PORT}"), ("Accept", "text/html"), *headers]
        lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in said)]
        with (
            socket.create_connection((self.address, PORT), 30) as plain,
            self.trust.wrap_socket(plain, server_hostname=self.host(label)) as secured,
        ):
            secured.sendall("\r\n".join([*lines, "", ""]).encode())
            response = http.client.HTTPResponse(secured, method=method)
            response.begin()
            fields = httpx.Headers(response.getheaders())
            return Answer(response.status, fields, b"" if response.status == 101 else response.read())

    @property
    def process_env(self) -> dict[str, str]:
        """Environment of a process that finds the hosts and trusts them."""
        return self.env.env | {
            "PYTHONPATH": str(NAMES),
            "NAMES_BELOW": f"{DOMAIN}={ADDRESS}",
            "SSL_CERT_FILE": str(self.authorities),
            "PREFECT_API_SSL_CERT_FILE": str(self.authorities),
            "PREFECT_HOME": str(self.env.home / "prefect"),
            "DO_NOT_TRACK": "1",
        }

    def run(self, *argv: str, credential: str | None = None, timeout: float = 300) -> Done:
        """Run a command of the clone that reaches the hosts, as Prefect's clients do with this credential."""
        auth = {"PREFECT_API_URL": f"{self.url('tasks-api')}/api"}
        if credential:
            auth["PREFECT_API_AUTH_STRING"] = credential
        return run(list(argv), self.env.root, self.process_env | auth, timeout=timeout)


def front_door_of(directory: Path) -> Iterator[FrontDoor]:
    """The stack, made by one `scripts/up`."""
    lead_below(DOMAIN, ADDRESS)
    access = {host: {"groups": [GROUP]} for host in ("tasks", "storage_console", "metrics")}
    people = {name: {"email": f"{name}@{DOMAIN}", **user} for name, user in USERS.items()}
    code = directory / TICKING
    code.mkdir()
    (code / "ticking.py").write_text(TICKS)
    ticking = {"path": str(code), "worker": "dask", "deployments": {"often": {"entrypoint": "ticking.py:ticking"}}}
    for env in environment(
        directory, "front", OFFSET,
        flows={**shipped(ROOT, "dev-mirror")["flows"], TICKING: ticking},
        proxy={"mode": "managed", "domain": DOMAIN, "certificates": "internal", "address": ADDRESS},
        auth={"mode": "managed", "users": people, "access": access},
        metrics={"mode": "managed"},
    ):  # fmt: skip
        set_secrets(env, {f"auth.users.{name}.password_hash": HASHER.hash(PASSWORD) for name in USERS})
        env.up()
        yield FrontDoor(env, authority(env, directory))


def set_secrets(env: Environment, secrets: dict[str, str]) -> None:
    """Settings of a new stack that its YAML holds encrypted."""
    env.run("scripts/setup", "--yes", "--stack", env.stack)
    env.run("scripts/pulumi", "stack", "init", env.stack, "--non-interactive")
    values = [word for path, secret in secrets.items() for word in ("--secret", f"{NAMESPACE}:{path}={secret}")]
    env.pulumi("config", "set-all", "--path", *values)


def authority(env: Environment, directory: Path) -> Path:
    """The certificate of the authority that the stack's Caddy signs with, as a file in `directory`."""
    found = directory / "authority.crt"
    found.write_text(docker("exec", env.name("caddy"), "cat", "/data/caddy/pki/authorities/local/root.crt") + "\n")
    return found
