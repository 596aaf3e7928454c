"""A Caddy in a container that somebody else started, with a site of theirs."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import urllib3

from providers.connection import EngineConnection
from tests.e2e.environment import docker
from tests.integration.images import image
from tests.integration.ports import free_port

ENGINE: Final = EngineConnection(server="host", url="unix:///var/run/docker.sock")
CONFIGURATION: Final = "/etc/caddy"
"""Where the directory of the test is mounted."""
THEIRS: Final = "theirs.example.com"
START_SECONDS: Final = 20


@dataclass(frozen=True)
class RunningCaddy:
    """A Caddy, and how a test sees and disturbs it without our providers."""

    container: str
    directory: Path
    """What it has at CONFIGURATION."""
    port: int

    @property
    def caddyfile(self) -> Path:
        return self.directory / "Caddyfile"

    def file(self, path: str) -> Path:
        """A file of the container, as this machine sees it."""
        return self.directory / Path(path).relative_to(CONFIGURATION)

    def get(self, host: str) -> str | None:
        """What it answers to a request for a host's page; None where it has no such host."""
        # Once more where the connection was closed without an answer, as browsers do: a reload may do that.
        url, again = f"http://127.0.0.1:{self.port}/", urllib3.Retry(connect=0, read=1)
        answer = urllib3.request("GET", url, headers={"Host": host, "Connection": "close"}, retries=again, timeout=5)
        return answer.data.decode() or None

    def site(self, host: str, text: str) -> str:
        """A part of a Caddyfile: a host and what it answers."""
        return f"http://{host}:{self.port} {{\n\trespond `{text}`\n}}\n"

    def restart(self) -> None:
        docker("restart", "--time", "5", self.container)
        self.wait()

    def wait(self) -> None:
        """Return when it serves."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                if self.get(THEIRS) == "theirs":
                    return
            except urllib3.exceptions.HTTPError:
                time.sleep(0.1)
        pytest.fail(f"Caddy did not get ready: {docker('logs', self.container)}")


@contextmanager
def running_caddy(
    directory: Path,
    *,
    imports: str = f"{CONFIGURATION}/sites/*.caddy",
    options: str = "",
    mount: str = "{directory}:/etc/caddy",
    words: Sequence[str] = (),
) -> Iterator[RunningCaddy]:
    """Run a Caddy that has its configuration from `directory`, with a site of its own, until the block ends.

    Args:
        directory: becomes its configuration.
        imports: what its Caddyfile imports; "" for nothing.
        options: further global options of its Caddyfile.
        mount: how `directory` gets in.
        words: further words of `docker run`.
    """
    caddy = RunningCaddy(f"caddy-{os.getpid()}-{secrets.token_hex(4)}", directory, free_port())
    line = f"import {imports}\n" if imports else ""
    caddy.caddyfile.write_text(f"{{\n\tauto_https off\n\t{options}\n}}\n{caddy.site(THEIRS, 'theirs')}{line}")
    docker(
        *("run", "--detach", "--name", caddy.container, "--publish", f"127.0.0.1:{caddy.port}:{caddy.port}"),
        *("--volume", mount.format(directory=directory), *words, image("caddy")),
    )
    try:
        caddy.wait()
        yield caddy
    finally:
        docker("rm", "--force", "--volumes", caddy.container)
