"""A fresh clone of the project with a stack of its own on this machine's Docker engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from minio import Minio

ROOT: Final = Path(__file__).resolve().parents[2]
NAMESPACE: Final = "prefect-environment"
LABEL: Final = "prefect-environment"
UP_SECONDS: Final = 900
LOG_SECONDS: Final = 5
PREFECT: Final = 4200
MINIO: Final = 9000


class CommandError(AssertionError):
    """A command that ended otherwise than it should; the text holds what it printed."""


@dataclass(frozen=True)
class Done:
    """What a command printed (both streams, in order) and how it ended."""

    code: int
    text: str


def run(argv: list[str], cwd: Path, env: Mapping[str, str], *, timeout: float = UP_SECONDS) -> Done:
    """Run a command to its end; output of both streams together."""
    done = subprocess.run(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=timeout, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout)


def docker(*words: str, ok: bool = True) -> str:
    """Output of the docker client; the tests' own look at what the product made."""
    done = run(["docker", *words], ROOT, os.environ, timeout=300)
    if ok and done.code:
        raise CommandError(f"docker {' '.join(words)}: {done.text}")
    return done.text.strip()


@dataclass
class Environment:
    """A clone, its stack, and the state directory that only it uses."""

    root: Path
    stack: str
    home: Path
    """Where state and passphrase live: XDG_STATE_HOME."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The stack's YAML below the project's namespace; `write_settings` puts it down."""
    docker: Callable[..., str] = docker
    """The docker client of the engine that the stack is on; output of its words."""
    secrets: dict[str, str] = field(default_factory=dict)
    """Secret outputs that were asked for."""

    @property
    def env(self) -> dict[str, str]:
        """Environment of every command: the machine's, less whatever a user's would lack or has otherwise."""
        ours = ("PULUMI_", "PREFECT_", "PYTHON")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        return {**kept, "XDG_STATE_HOME": str(self.home)}

    @property
    def prefix(self) -> str:
        """What the names of its Docker objects begin with."""
        return f"{NAMESPACE}-{self.stack}-"

    def name(self, logical: str) -> str:
        """The name of a Docker object."""
        return f"{self.prefix}{logical}"

    def write_settings(self, **changes: Any) -> None:
        """Put the stack's YAML down with `changes` of its top-level settings (None removes one)."""
        self.settings = {k: v for k, v in {**self.settings, **changes}.items() if v is not None}
        config = {f"{NAMESPACE}:{key}": value for key, value in self.settings.items()}
        text = yaml.safe_dump({"config": config}, allow_unicode=True)
        (self.root / f"Pulumi.{self.stack}.yaml").write_text(text)

    def run(self, *argv: str, ok: bool = True, timeout: float = UP_SECONDS) -> Done:
        """Run a command in the clone; with ok=True a failure raises with its output."""
        done = run(list(argv), self.root, self.env, timeout=timeout)
        if ok and done.code:
            raise CommandError(f"{' '.join(argv)} ended with {done.code}:\n{done.text[-6000:]}")
        return done

    def up(self, *words: str, ok: bool = True) -> Done:
        """`scripts/up` with everything that it does: set-up, pulumi up, smoke."""
        return self.run("scripts/up", "--stack", self.stack, "--yes", *words, ok=ok)

    @contextmanager
    def up_started(self) -> Iterator[subprocess.Popen[bytes]]:
        """`scripts/up` in the background; `up_output` is what it has printed so far."""
        with (self.home / "up.log").open("wb") as log:
            started = subprocess.Popen(
                ["scripts/up", "--stack", self.stack, "--yes"],
                cwd=self.root, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            yield started
        finally:
            if started.poll() is None:
                kill_with_pulumi(started)

    def up_output(self) -> str:
        """What the latest `up_started` has printed."""
        return (self.home / "up.log").read_text()

    def pulumi(self, *words: str, ok: bool = True, timeout: float = UP_SECONDS) -> Done:
        """The set-up's Pulumi on this stack."""
        return self.run("scripts/pulumi", *words, "--stack", self.stack, ok=ok, timeout=timeout)

    def apply(self, *words: str, ok: bool = True) -> Done:
        """`pulumi up` alone."""
        return self.pulumi("up", "--yes", "--skip-preview", "--non-interactive", *words, ok=ok)

    def smoke(self, *words: str, ok: bool = True) -> Done:
        """`scripts/smoke`."""
        return self.run("scripts/smoke", "--stack", self.stack, *words, ok=ok)

    def down(self, *words: str, ok: bool = True) -> Done:
        """`scripts/down`."""
        return self.run("scripts/down", "--stack", self.stack, "--yes", *words, ok=ok)

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs."""
        outputs: dict[str, Any] = json.loads(self.pulumi("stack", "output", "--json").text)
        return outputs

    def exported(self) -> dict[str, Any]:
        """The stack's state, secrets still encrypted."""
        state: dict[str, Any] = json.loads(self.pulumi("stack", "export").text)
        return state

    def health(self, logical: str) -> str:
        """How a container is by its own check: `starting`, `healthy` or `unhealthy`."""
        return str(self.docker("inspect", "--format", "{{.State.Health.Status}}", self.name(logical)))

    def urn(self, kind: str, name: str) -> str:
        """URN of the resource whose type ends in `kind` and which is called `name`."""
        urns = [str(r["urn"]) for r in self.exported()["deployment"]["resources"]]
        [urn] = [u for u in urns if u.endswith(f"{kind}::{name}")]
        return urn

    def image(self, name: str) -> str:
        """Reference of the image that the stack uses now; superseded ones may still be on the engine."""
        resources = self.exported()["deployment"]["resources"]
        [reference] = [r["inputs"]["name"] for r in resources if r["urn"].endswith(f":RemoteImage::{name}")]
        return str(reference)

    def push(self, image: str, reference: str) -> str:
        """Push a built image under `reference`, forget it there, and return the reference by digest."""
        self.docker("tag", self.image(image), reference)
        self.docker("push", "--quiet", reference)
        digest = self.docker("inspect", "--format", "{{index .RepoDigests 0}}", reference).rpartition("@")[2]
        self.docker("image", "rm", reference)
        return f"{reference}@{digest}"

    def objects(self, kind: str) -> list[str]:
        """Names of the stack's containers, volumes, networks or images on the engine."""
        listing = {
            "container": ["ps", "--all", "--format", "{{.Names}}"],
            "volume": ["volume", "ls", "--format", "{{.Name}}"],
            "network": ["network", "ls", "--format", "{{.Name}}"],
            "image": ["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"],
        }[kind]
        return self.docker(*listing, "--filter", f"label={LABEL}.stack={self.stack}").split()

    def secret(self, output: str) -> str:
        """A secret output of the stack, asked for once: the data that it opens keeps it."""
        if output not in self.secrets:
            self.secrets[output] = self.pulumi("stack", "output", output, "--show-secrets").text.strip()
        return self.secrets[output]

    def reached(self, port: int) -> str:
        """Address and port here that lead to a port which the stack publishes, its offset not counted."""
        return f"127.0.0.1:{port + int(self.settings.get('port_offset', 0))}"

    def minio(self, user: str = "minio-root", password: str | None = None) -> Minio:
        """MinIO for its administrator, with the password from the stack's outputs, or for another user."""
        return Minio(self.reached(MINIO), user, password or self.secret("minio_root_password"), secure=False)

    def http(self, path: str, body: Mapping[str, Any] | None = None, method: str | None = None) -> Any:
        """Call the stack's Prefect API; JSON in and out."""
        import httpx

        url = f"http://{self.reached(PREFECT)}/api{path}"
        user, _, password = self.secret("prefect_api_auth_string").partition(":")
        response = httpx.request(
            method or ("POST" if body is not None else "GET"), url, json=body, auth=(user, password), timeout=30
        )
        response.raise_for_status()
        return response.json() if response.content else None

    def run_deployment(self, name: str, parameters: Mapping[str, Any] | None = None, seconds: float = 180) -> Any:
        """Run a deployment to its end; the flow run."""
        flow, _, deployment = name.partition("/")
        found = self.http(f"/deployments/name/{flow}/{deployment}")
        flow_run = self.http(f"/deployments/{found['id']}/create_flow_run", {"parameters": dict(parameters or {})})
        return self.followed(flow_run["id"], seconds)

    def followed(self, flow_run_id: str, seconds: float = 180) -> Any:
        """The flow run once it is in a final state."""

        def final() -> Any:
            flow_run = self.http(f"/flow_runs/{flow_run_id}")
            return flow_run if flow_run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        return eventually(final, seconds)

    def logs(self, flow_run_id: str) -> str:
        """What a flow run that has ended logged, tasks included, in order; logs arrive a little later than the end."""
        asked = {"logs": {"flow_run_id": {"any_": [flow_run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200}

        def whole() -> str:
            entries = self.http("/logs/filter", asked)
            ended = any(e["message"].startswith("Finished in state") and not e["task_run_id"] for e in entries)
            return "\n".join(entry["message"] for entry in entries) if ended else ""

        eventually(whole, 30)
        # Each process sends its logs every two seconds: a Dask worker's may come after the flow's last.
        time.sleep(LOG_SECONDS)
        return whole()


def eventually(look: Callable[[], Any], seconds: float) -> Any:
    """Call `look` until it returns something true; the last answer names what was missing."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {look.__name__} gives {found!r}")
        time.sleep(0.5)
    return found


def kill_with_pulumi(started: subprocess.Popen[bytes]) -> None:
    """SIGKILL a script and the Pulumi that it runs, and nothing else: plugins are left to find out by themselves."""
    pulumi = [pid for pid in descendants(started.pid) if _program(pid) == "pulumi"]
    assert pulumi, "nothing to kill"
    for pid in [started.pid, *pulumi]:
        os.kill(pid, signal.SIGKILL)
    started.wait(10)


def descendants(pid: int) -> list[int]:
    """Processes below `pid`, from /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # It has ended meanwhile.
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    below = children.get(pid, [])
    return [*below, *(deeper for child in below for deeper in descendants(child))]


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def clone(target: Path) -> None:
    """Lay out what a clone of the tree as it stands would hold: files that git has or would take."""
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], ROOT, os.environ)
    for name in filter(None, listed.text.split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def clone_and_home(directory: Path) -> tuple[Path, Path]:
    """A clone below `directory`, and an empty state directory beside it."""
    root, home = directory / "clone", directory / "state"
    clone(root)
    home.mkdir()
    return root, home


def shipped(root: Path, stack: str) -> dict[str, Any]:
    """Settings of a stack as they ship."""
    config = yaml.safe_load((root / f"Pulumi.{stack}.yaml").read_text())["config"]
    return {key.removeprefix(f"{NAMESPACE}:"): value for key, value in config.items()}


def environment(directory: Path, stack: str, offset: int, **settings: Any) -> Iterator[Environment]:
    """An environment with the shipped greetings flow, on a clean host; whatever is left of it at the end is removed.

    It has one Dask worker, unless the settings say otherwise (None: as it ships); the start of each is seconds of work.
    """
    root, home = clone_and_home(directory)
    env = Environment(root, stack, home, shipped(root, "dev-mirror"))
    env.write_settings(**{"port_offset": offset, "dask": {"workers": 1}, **settings})
    remove_all(env)  # What a run that was killed has left: its state is gone, so nothing of it is of use.
    try:
        yield env
    finally:
        remove_all(env)


def remove_all(env: Environment) -> None:
    """Remove the stack's objects from the engine, whatever state Pulumi is in."""
    for kind, command in (
        ("container", ["rm", "--force"]),
        ("volume", ["volume", "rm"]),
        ("network", ["network", "rm"]),
    ):
        for name in env.objects(kind):
            env.docker(*command, name, ok=False)
    found = (f"label={LABEL}.stack={env.stack}", f"reference={NAMESPACE}-{env.stack}/*")
    listed = [image for by in found for image in env.docker("image", "ls", "--quiet", "--filter", by).split()]
    for image in dict.fromkeys(listed):  # By id: one that was pulled by digest has no tag.
        env.docker("image", "rm", "--force", "--no-prune", image, ok=False)
