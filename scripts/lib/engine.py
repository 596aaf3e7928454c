"""The Docker engine: found, installed on Debian, and this stack's own objects on it."""

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from providers import docker_cli, ssh
from scripts.lib.paths import ROOT, state
from scripts.lib.process import run
from scripts.lib.ui import Failure

LOCAL_SOCKET = Path("/var/run/docker.sock")
PACKAGES = ("docker.io", "iptables")
START_SECONDS = 60.0
VERSION_SECONDS = 20.0
HELP = """
  Debian, Ubuntu, WSL2: sudo apt-get install docker.io && sudo usermod -aG docker $USER, then log in again
  WSL2 without its own engine: Docker Desktop with the WSL integration of this distribution
  macOS: Docker Desktop, or `brew install colima docker && colima start`
  an engine elsewhere: export DOCKER_HOST=ssh://user@host"""


class Engine:
    """A Docker engine, through the docker command: this machine's, or for `ssh://` the one on that host itself."""

    def __init__(
        self,
        host: str,
        *,
        ssh_options: Mapping[str, object] | None = None,
        tls_directory: str | None = None,
        prepared: bool = False,
        setting: str = "host",
    ) -> None:
        self.host = host
        self.setting = setting
        """Path of the host's settings: `host`, or `hosts.<name>` for a further one."""
        self.prepared = prepared
        """Whether `pulumi up` installs it where there is none."""
        self.via = ssh.ssh_host(host, ssh_options or {}) if host.startswith("ssh://") else None
        """How ssh leads there; None for an engine that is reached otherwise."""
        self._tls_directory = tls_directory

    @property
    def local(self) -> bool:
        """Whether it is meant to run on this machine, where the user may have it."""
        return self.host == f"unix://{LOCAL_SOCKET}"

    def docker(self, *words: str, timeout: float = 60, given: str = "") -> str:
        """Run a docker command on this engine, with `given` as its standard input, and return its output.

        Raises:
            Failure: it failed; of a host that can't be reached it says what to run.
        """
        try:
            return run(self._argv(words), timeout=timeout, cwd=ROOT, given=given)
        except Failure as failure:
            meaning = ssh.explained(self.via, str(failure)) if self.via else None
            if meaning is None:
                raise
        raise Failure(str(meaning))

    def follow(self, *words: str, shown: bool = False) -> subprocess.Popen[str]:
        """Start a docker command that goes on until it is done, its input is closed or this process ends.

        `shown`: what it prints goes where this process prints, instead of into a pipe and nowhere.
        """
        argv = self._argv(words)
        if self.via:
            # Without a terminal, the far side is not ended with the near one.
            until_closed = "{ cat <&3; kill $followed; } >/dev/null 2>&1"
            argv[-1] = f"exec 3<&0; {argv[-1]} & followed=$!; {until_closed} & wait $followed"
        output, errors = (None, None) if shown else (subprocess.PIPE, subprocess.DEVNULL)
        return subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=output, stderr=errors, text=True)

    def hand_over(self, words: Sequence[str], other: "Engine", there: Sequence[str]) -> None:
        """Let a docker command on another engine read what one on this engine prints; this machine keeps none of it.

        Raises:
            Failure: either did not end well.
        """
        with (
            subprocess.Popen(self._argv(words), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as source,
            subprocess.Popen(other._argv(there), cwd=ROOT, stdin=source.stdout) as sink,
        ):
            if source.stdout:
                source.stdout.close()  # The sink's alone: the source must notice its end.
            codes = sink.wait(), source.wait()
        if any(codes):
            raise Failure(f"Reading at {self.host} ended with {codes[1]}, writing at {other.host} with {codes[0]}.")

    def _argv(self, words: Sequence[str]) -> list[str]:
        return docker_cli.command(self.host, words, via=self.via, tls_directory=self._tls_directory)

    def version(self) -> str:
        """Return the engine's version; fails where it does not answer."""
        return self.docker("version", "--format", "{{.Server.Version}}", timeout=VERSION_SECONDS).strip()

    def oldest_api(self) -> tuple[int, ...]:
        """Return the oldest version of its API that it lets a client speak."""
        text = self.docker("version", "--format", "{{.Server.MinAPIVersion}}", timeout=VERSION_SECONDS)
        return tuple(int(part) for part in text.strip().split("."))

    def answers(self) -> bool:
        """Say whether it is there."""
        try:
            self.version()
        except Failure:
            return False
        return True

    def names(self, kind: str, project: str, stack: str) -> dict[str, str]:
        """Map the ids of a stack's labelled containers, networks or volumes to their names.

        Args:
            kind: "container", "network" or "volume".
            project: value of the label prefect-environment.project.
            stack: value of the label prefect-environment.stack.
        """
        field = {
            "container": "{{.ID}} {{.Names}}",
            "network": "{{.ID}} {{.Name}}",
            "volume": "{{.Name}} {{.Name}}",
        }
        every = ["--all"] if kind == "container" else []
        whole = [] if kind == "volume" else ["--no-trunc"]
        lines = self.docker(kind, "ls", *every, *whole, *_labelled(project, stack), "--format", field[kind])
        return dict(line.split(" ", 1) for line in lines.splitlines())

    def inspected(self, project: str, stack: str, *, timeout: float = 60) -> list[dict[str, Any]]:
        """Return all that Docker says of a stack's labelled containers, running or not."""
        ids = list(self.names("container", project, stack))
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids, timeout=timeout)) if ids else []
        return found

    def states(self, project: str, stack: str) -> dict[str, str]:
        """Map the names of a stack's containers to their status, such as `Up 3 minutes` or `Exited (0) 2 hours ago`."""
        filters = _labelled(project, stack)
        lines = self.docker("container", "ls", "--all", *filters, "--format", "{{.Names}} {{.Status}}")
        return dict(line.split(" ", 1) for line in lines.splitlines())

    def images(self, project: str, stack: str) -> dict[str, list[str]]:
        """Map the ids of a stack's images to their tags; none for an image whose tag went to a newer one.

        By name, too: the newer Docker provider gives what the engine itself builds no labels.
        """
        found: dict[str, list[str]] = {}
        for chosen in (_labelled(project, stack), ["--filter", f"reference={project}-{stack}/*"]):
            lines = self.docker("image", "ls", "--no-trunc", *chosen, "--format", "{{json .}}")
            for image in map(json.loads, lines.splitlines()):
                tags = found.setdefault(image["ID"], [])
                tag = f"{image['Repository']}:{image['Tag']}"
                if "<none>" not in tag and tag not in tags:
                    tags.append(tag)
        return found

    def remove(self, kind: str, names: Sequence[str]) -> None:
        """Remove containers (running or not), networks or volumes."""
        if names:
            force = ["--force"] if kind == "container" else []
            self.docker(kind, "rm", *force, *names, timeout=120)

    def remove_images(self, project: str, stack: str, *, keep: frozenset[str] = frozenset()) -> list[str]:
        """Remove a stack's images except those with a tag to keep; return the names of what is gone.

        What a container still uses stays; the next time takes it.
        """
        gone = []
        for image, tags in self.images(project, stack).items():
            for name in tags or [image]:
                if name in keep:
                    continue
                try:
                    self.docker("image", "rm", name, timeout=120)
                except Failure:
                    continue
                gone.append(name)
        return gone


def _labelled(project: str, stack: str) -> list[str]:
    return [
        *("--filter", f"label=prefect-environment.project={project}"),
        *("--filter", f"label=prefect-environment.stack={stack}"),
    ]


def host(setting: str | None) -> str:
    """Return the address: the stack's setting, DOCKER_HOST, the local socket, or docker's own context.

    The last is where colima and Docker Desktop listen when they do not own the local socket.
    """
    chosen = setting or os.environ.get("DOCKER_HOST")
    if chosen:
        return chosen
    if not LOCAL_SOCKET.exists() and shutil.which("docker"):
        try:
            context = run(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], timeout=15)
            return context.strip()
        except Failure:
            pass
    return f"unix://{LOCAL_SOCKET}"


def variables(address: str) -> dict[str, str]:
    """Return what tells Pulumi of the address: nothing of the usual one, since the variable ends in the state.

    With it, `pulumi preview` in a shell without the variable would show a change of the provider.
    """
    return {} if address == f"unix://{LOCAL_SOCKET}" else {"DOCKER_HOST": address}


def can_install(engine: Engine) -> bool:
    """Say whether set-up may bring the engine: as root on Debian or its kin, where the local one is meant."""
    return engine.local and can_install_packages()


def can_install_packages() -> bool:
    """Say whether set-up may install system packages."""
    return platform.system() == "Linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def missing_packages() -> list[str]:
    """Return the packages of the engine that are not there."""
    if shutil.which("dockerd") and shutil.which("docker"):
        return []
    return list(PACKAGES)


def install_packages(names: Sequence[str]) -> None:
    """Install Debian packages."""
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], timeout=300, env=env)
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
    run([*install, *names], timeout=900, env=env)
    if "docker.io" in names and not shutil.which("docker"):
        run([*install, "docker-cli"], timeout=300, env=env)  # a package of its own since Debian 13


def start(engine: Engine) -> None:
    """Start the local engine and wait for it: through systemd where that runs, else as our own process."""
    if engine.answers():
        return
    log = state() / "dockerd.log"
    process = None
    if Path("/run/systemd/system").is_dir():
        run(["systemctl", "start", "docker"], timeout=START_SECONDS)
    else:
        with log.open("w") as out:
            process = subprocess.Popen(
                ["dockerd"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", start_new_session=True
            )
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and (process is None or process.poll() is None):
        if engine.answers():
            return
        time.sleep(0.5)
    if process is None:
        raise Failure("The Docker engine was started and does not answer; see `journalctl -u docker`.")
    last = "\n  ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
    raise Failure(f"The Docker engine was started and does not answer; its log is {log}, and ends with:\n  {last}")


def absent(engine: Engine) -> Failure:
    """Describe an engine that does not answer, and how to get one."""
    remote = engine.host.startswith("ssh://")
    if not remote and not shutil.which("docker"):
        return Failure(f"There is no docker command on PATH, and no engine was found at {engine.host}.{HELP}")
    try:
        engine.version()
        reason = "it answered only now; run the command again"
    except Failure as failure:
        reason = str(failure) if remote else str(failure).splitlines()[-1].strip()
    return Failure(f"No Docker engine answers at {engine.host}: {reason}{'' if remote else HELP}")
