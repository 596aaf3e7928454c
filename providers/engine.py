"""How providers reach what runs in a container: through the docker command of its engine's machine.

Words and exit codes: https://docs.docker.com/reference/cli/docker/container/exec/ and .../inspect/.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from providers import ssh
from providers.base import ProviderError
from providers.connection import EngineConnection, Server, UnreachableError
from providers.docker_cli import command

SSH_SECONDS: Final = 20.0
"""More time for a command over ssh, whose own limits end it sooner when the host is lost."""
SSH_FAILED: Final = 255
LASTING: Final = frozenset({"bind", "volume"})
"""Types of mounts whose files outlive the container."""


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    output: str
    errors: str

    @property
    def last(self) -> str:
        """What it said last: of Caddy its error, after the log; newer ones write that as JSON, too."""
        line = (self.errors.strip().splitlines() or [f"exit code {self.code}"])[-1]
        try:
            return str(json.loads(line)["msg"])
        except (ValueError, KeyError, TypeError):
            return line.removeprefix("Error: ")


@dataclass(frozen=True)
class Mount:
    """A directory or file of the host, or a volume, in a container."""

    path: PurePosixPath
    lasting: bool
    writable: bool


@dataclass(frozen=True)
class Container:
    """A running container."""

    name: str
    mounts: Sequence[Mount]

    def mount(self, directory: PurePosixPath) -> Mount | None:
        """Return the mount that a directory lies on, if any."""
        holding = [mount for mount in self.mounts if directory.is_relative_to(mount.path)]
        return max(holding, key=lambda mount: len(mount.path.parts), default=None)


class EngineClient:
    """A Docker engine."""

    def __init__(self, connection: EngineConnection, timeout: float) -> None:
        self._connection = connection
        self._via = connection.get("via")
        self._timeout = timeout + SSH_SECONDS if self._via else timeout

    def container(self, name: str) -> Container | None:
        """Return a container, or None where there is none of that name.

        Raises:
            UnreachableError: it does not run.
        """
        said = self._docker("container", "inspect", "--format", "[{{json .State}}, {{json .Mounts}}]", name)
        if "no such container" in said.errors.lower():
            return None
        if said.code:
            raise UnreachableError(said.last)
        state, mounts = json.loads(said.output)
        if state["Status"] != "running":
            raise UnreachableError(f"the container {name} is {state['Status']}")
        return Container(
            name, [Mount(PurePosixPath(each["Destination"]), each["Type"] in LASTING, each["RW"]) for each in mounts]
        )

    def shell(self, container: Container, script: str, *arguments: str, given: str = "") -> Said:
        """Run a script in a container as the user that it runs as; secrets only in `given`, which the script reads."""
        words = ["exec", "--interactive", container.name, "sh", "-c", script, "sh", *arguments]
        return self._docker(*words, given=given)

    def _docker(self, *words: str, given: str = "") -> Said:
        tls_directory = self._connection.get("tls_directory")
        argv = command(self._connection["url"], words, via=self._via, tls_directory=tls_directory)
        try:
            done = subprocess.run(argv, input=given.encode(), capture_output=True, timeout=self._timeout, check=False)
        except subprocess.TimeoutExpired:
            raise UnreachableError(f"nothing within {self._timeout:g} s") from None
        except FileNotFoundError:
            raise ProviderError(
                f"there is no {argv[0]} command on this machine, which it is done with; nothing was changed. "
                "Install it here."
            ) from None
        said = Said(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        # What Caddy says of its own connections reads like ssh's words, but never comes with ssh's code.
        if self._via and said.code and (said.code == SSH_FAILED or words[0] != "exec"):
            failure = ssh.explained(self._via, said.errors)
            if failure or said.code == SSH_FAILED:
                raise failure or ssh.HostError(f"{self._via['address']}: ssh failed: {said.last}", passing=True)
        return said


class Engine(Server[EngineConnection, EngineClient]):
    """A Docker engine, for what is done inside a container."""

    title = "Docker"

    @contextmanager
    def session(self, connection: EngineConnection, timeout: float) -> Iterator[EngineClient]:
        """Yield a client; see Server.session."""
        yield EngineClient(connection, timeout)
