"""A real Prefect server on loopback, for the tests that call one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from providers.connection import PrefectConnection
from tests.integration.harness import Props
from tests.integration.ports import free_port

START_SECONDS = 60
AUTH, FORMER = "admin:integration-password", "admin:former-password"
SERVER = Path(__file__).parents[2] / "images" / "prefect" / "prefect-server"


@dataclass(frozen=True)
class RunningPrefect:
    """A Prefect server of this test session, as seen without our providers."""

    connection: PrefectConnection
    api: httpx.Client

    def get(self, path: str) -> Props | None:
        answer = self.api.get(path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        found: Props = answer.raise_for_status().json()
        return found

    def send(self, method: str, path: str, body: object = None) -> Props:
        answer = self.api.request(method, path, json=body).raise_for_status()
        sent: Props = answer.json() if answer.content else {}
        return sent

    def __getitem__(self, path: str) -> Props:
        found = self.get(path)
        assert found is not None, path
        return found


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPrefect]:
    """Run the Prefect server without its background services, which would lock SQLite's file now and then."""
    with running_prefect(tmp_path_factory.mktemp("prefect"), {"PREFECT__SERVER_WEBSERVER_ONLY": "1"}) as running:
        yield running


@contextmanager
def running_prefect(home: Path, settings: Mapping[str, str] | None = None) -> Iterator[RunningPrefect]:
    """Run the Prefect server that the environment runs, on SQLite in `home`, until the block ends."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, str(SERVER), "127.0.0.1", str(port)]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        "FORMER_API_AUTH_STRING": FORMER,
        "PREFECT_SERVER_UI_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **(settings or {}),
    }
    user, _, password = AUTH.partition(":")
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT) as process,
        httpx.Client(base_url=url, auth=(user, password), trust_env=False, timeout=30) as api,
    ):
        try:
            end = time.monotonic() + START_SECONDS
            while not healthy(api):
                if process.poll() is not None or time.monotonic() > end:
                    pytest.fail(f"the Prefect server did not get ready: {(home / 'log').read_text()}")
                time.sleep(0.2)
            yield RunningPrefect(PrefectConnection(server="prefect-test", url=url, auth=AUTH), api)
        finally:
            process.terminate()


def healthy(api: httpx.Client) -> bool:
    """Whether a server answers at `/health`."""
    try:
        return api.get("/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
