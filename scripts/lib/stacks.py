"""Stacks: which one, its configuration, its state."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from monitor.limits import Limits
from providers.ssh import SshHost, ssh_host
from scripts.lib import engine, network, tools
from scripts.lib.engine import Engine
from scripts.lib.environment import pulumi_environment
from scripts.lib.paths import LOCAL, ROOT, VENV
from scripts.lib.process import run
from scripts.lib.ui import Failure

PROJECT = "prefect-environment"
SALT = re.compile(r"^encryptionsalt:.*$", re.MULTILINE)
SECONDS = 120.0


def backend_directory(env: Mapping[str, str]) -> Path | None:
    """Return the directory of a state backend that is one, None for Pulumi Cloud and object stores."""
    url = urlsplit(env.get("PULUMI_BACKEND_URL", ""))
    return Path(unquote(url.path)).expanduser() / ".pulumi" if url.scheme == "file" else None


def existing(env: Mapping[str, str]) -> list[str]:
    """Return the names of the project's stacks in the backend."""
    directory = backend_directory(env)
    if directory:
        files = (directory / "stacks" / PROJECT).glob("*.json*")
        return sorted({file.name.split(".json")[0] for file in files if not file.name.endswith((".bak", ".attrs"))})
    listed = json.loads(run(["pulumi", "stack", "ls", "--json", "--cwd", ROOT], timeout=SECONDS, env=env))
    return sorted(stack["name"] for stack in listed)


@dataclass(frozen=True)
class Choice:
    """A stack and why it was taken."""

    name: str
    reason: str


def choose(wanted: str | None, env: Mapping[str, str]) -> Choice:
    """Choose the stack: the one asked for, else the one that exists, else by what the network offers.

    Raises:
        Failure: several exist, or the one asked for has no settings file.
    """
    if wanted:
        if not tracked(wanted).exists():
            shipped = ", ".join(sorted(path.name for path in ROOT.glob("Pulumi.*.yaml")))
            raise Failure(
                f"The stack {wanted} has no settings: {tracked(wanted).name} is missing.\n"
                f"  Copy one of {shipped} to it, or name another stack."
            )
        return Choice(wanted, "asked for")
    names = existing(env)
    if len(names) > 1:
        raise Failure(f"Several stacks exist: {', '.join(names)}. Say which one with --stack NAME.")
    if names:
        return Choice(names[0], "it exists")
    if network.image_registry():
        return Choice("dev", "an image registry answers")
    return Choice("dev-mirror", "no image registry answers, so images are built")


def tracked(stack: str) -> Path:
    """Return the stack's settings file, the user's own."""
    return ROOT / f"Pulumi.{stack}.yaml"


def config_file(stack: str) -> Path:
    """Return the file to hand to Pulumi, with the salt that it keeps secrets by.

    Pulumi writes a salt into a settings file that has none, and so would dirty the tracked one; and a salt
    that is committed refuses every other passphrase. So a settings file without a salt is copied to an
    untracked one, anew every time, with the salt that Pulumi wrote into the former copy. A file with a salt
    is used as it is.
    """
    source = tracked(stack)
    text = source.read_text()
    if SALT.search(text):
        return source
    copy = LOCAL / source.name
    former = SALT.search(copy.read_text()) if copy.exists() else None
    LOCAL.mkdir(exist_ok=True)
    header = f"# Made from {source.name} by scripts/, anew at every run: change that file, not this one.\n"
    salt = f"{former.group()}\n" if former else ""
    copy.write_text(f"{header}{text.rstrip()}\n{salt}")
    return copy


@dataclass(frozen=True)
class Settings:
    """What the scripts must know of a stack's settings before the program runs, which checks them all."""

    artefacts: tuple[str, ...]
    """Names of what its images are built from, where they are built."""
    engines: tuple[Engine, ...]
    """Those of all hosts, the first host's first."""
    variables: dict[str, str]
    """What tells Pulumi of the first host where the settings don't."""
    data_directory: PurePosixPath | None
    """Where the first host keeps data outside of volumes."""
    private_addresses: dict[str, str]
    """Endpoint of a host to its address on a private network."""
    via: SshHost | None
    """The first host, whose loopback the stack's URLs are on, where that is not this machine."""
    limits: Limits = field(default_factory=Limits)
    """What is low, old or about to end."""


def configuration(stack: str) -> Mapping[str, Any]:
    """Read the configuration in a stack's settings file, with the YAML reader that the program has."""
    reader = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])) or {}, sys.stdout)"
    content = json.loads(run([VENV / "bin" / "python", "-c", reader, tracked(stack)], timeout=30))
    return _mapping(content.get("config"))


def settings(stack: str) -> Settings:
    """Read what the scripts must know from a stack's settings file."""
    config = configuration(stack)
    images = _mapping(config.get(f"{PROJECT}:images"))
    data_directory = _mapping(config.get(f"{PROJECT}:minio")).get("data_directory")
    host = _mapping(config.get(f"{PROJECT}:host"))
    first = _engine("host", host)
    further = {name: _mapping(each) for name, each in _mapping(config.get(f"{PROJECT}:hosts")).items()}
    return Settings(
        artefacts=_artefacts(config) if images.get("source") == "build" else (),
        engines=(first, *(_engine(f"hosts.{name}", each) for name, each in further.items())),
        variables={} if host.get("address") else engine.variables(first.host),
        data_directory=PurePosixPath(data_directory) if isinstance(data_directory, str) else None,
        private_addresses={
            str(each["address"]): str(each["private_address"])
            for each in (host, *further.values())
            if "address" in each and "private_address" in each
        },
        via=_via(first.host, host),
        limits=_limits(_mapping(config.get(f"{PROJECT}:alerts"))),
    )


def _limits(alerts: Mapping[str, Any]) -> Limits:
    return Limits(**{each.name: int(alerts[each.name]) for each in fields(Limits) if each.name in alerts})


def _artefacts(config: Mapping[str, Any]) -> tuple[str, ...]:
    servers = {"proxy": "caddy", "auth": "authelia"}
    managed = [
        server
        for section, server in servers.items()
        if _mapping(config.get(f"{PROJECT}:{section}")).get("mode") == "managed"
    ]
    return ("rootfs", "minio", *managed)


def _engine(setting: str, host: Mapping[str, Any]) -> Engine:
    return Engine(
        engine.host(host.get("address")),
        ssh_options=_mapping(host.get("ssh_options")),
        tls_directory=host.get("tls_directory"),
        prepared=host.get("prepare") is True,
        setting=setting,
    )


def _via(address: str, host: Mapping[str, Any]) -> SshHost | None:
    there = address if address.startswith("ssh://") else host.get("forward")
    return ssh_host(there, _mapping(host.get("ssh_options"))) if there else None


def _mapping(value: object) -> Mapping[str, Any]:
    """What is no mapping is the program's to refuse, with a better word than we have here."""
    return value if isinstance(value, Mapping) else {}


class Stack:
    """A stack in the backend, through the CLI."""

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        self.name = name
        self.env = env

    def pulumi(self, *words: str, given: str = "") -> str:
        """Run a quiet Pulumi command on this stack, with `given` as its standard input, and return its output."""
        argv = [
            "pulumi",
            *words,
            "--stack",
            self.name,
            "--non-interactive",
            "--color",
            "never",
            "--cwd",
            str(ROOT),
        ]
        return run(argv, timeout=SECONDS, env=self.env, given=given)

    def ensure(self) -> bool:
        """Make the stack where it does not exist, and select it; say whether it is new."""
        if self.name in existing(self.env):
            return False
        self.init()
        argv = ["pulumi", "stack", "select", self.name, "--non-interactive", "--cwd", str(ROOT)]
        run(argv, timeout=SECONDS, env=self.env)
        return True

    def init(self) -> None:
        """Make the stack in the backend."""
        # In a directory of its own: `stack init` writes a salt into the settings file beside Pulumi.yaml.
        place = LOCAL / "init"
        place.mkdir(parents=True, exist_ok=True)
        (place / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
        argv = ["pulumi", "stack", "init", "--no-select", self.name, "--non-interactive", "--cwd", str(place)]
        run(argv, timeout=SECONDS, env=self.env)

    def deployment(self) -> dict[str, Any]:
        """Return the state as `pulumi stack export` gives it, secrets encrypted."""
        state: dict[str, Any] = json.loads(self.pulumi("stack", "export"))
        return state

    def outputs(self, *, show_secrets: bool = False) -> dict[str, Any]:
        """Return the stack's outputs; what is secret stays hidden where it is not asked for."""
        shown = ["--show-secrets"] if show_secrets else []
        outputs: dict[str, Any] = json.loads(self.pulumi("stack", "output", "--json", *shown))
        return outputs

    def secret(self, output: str) -> str:
        """Return a secret output."""
        return self.pulumi("stack", "output", output, "--show-secrets").strip()

    def remove(self) -> None:
        """Remove the stack from the backend; its settings file stays, its untracked copy goes."""
        self.pulumi("stack", "rm", "--yes", "--preserve-config")
        (LOCAL / tracked(self.name).name).unlink(missing_ok=True)


def found(wanted: str | None) -> Stack:
    """Return a stack that exists, for commands that only look.

    Raises:
        Failure: nothing was set up here, there is no such stack, or several are there and none was asked for.
    """
    if not tools.cli() or not VENV.exists():
        raise Failure("It is not set up yet: run scripts/setup.")
    env = pulumi_environment()
    name = choose(wanted, env).name
    if name not in existing(env):
        raise Failure(f"There is no stack {name}; scripts/up makes it.")
    return Stack(name, env)


def resources(state: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the resources of a type token in an exported state."""
    listed: list[dict[str, Any]] = (state.get("deployment") or {}).get("resources") or []
    return [resource for resource in listed if resource["type"] == kind]


RUN_PROGRAM = frozenset({"destroy", "import", "preview", "refresh", "up", "watch"})
"""Commands of the CLI that take a settings file."""
ON_STACK = RUN_PROGRAM | {"cancel", "config", "console", "logs", "state"}
"""Commands of the CLI that take --stack wherever it stands."""


def arguments(argv: list[str], env: Mapping[str, str]) -> list[str]:
    """Complete the arguments of a CLI call with the stack and the settings file, where they are not given."""
    command = next((word for word in argv if not word.startswith("-")), "")
    if command not in ON_STACK or "--help" in argv or "-h" in argv:
        return argv
    named = _option(argv, "--stack", "-s")
    names = existing(env)
    stack = named or (names[0] if len(names) == 1 else None)
    if stack is None:
        return argv  # Pulumi takes the selected stack or says that there is none
    more = [] if named else ["--stack", stack]
    if command in RUN_PROGRAM and not _option(argv, "--config-file") and tracked(stack).exists():
        more += ["--config-file", str(config_file(stack))]
    return [*argv, *more]


def _option(argv: list[str], *names: str) -> str | None:
    for index, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else next(iter(argv[index + 1 :]), None)
    return None
