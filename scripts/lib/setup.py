"""All that comes before the first `pulumi up`."""

import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scripts.lib import engine, stacks, tools
from scripts.lib.engine import Engine
from scripts.lib.environment import own_backend, own_passphrase, pulumi_environment
from scripts.lib.paths import ROOT, VENV
from scripts.lib.process import run
from scripts.lib.ui import Consent, Failure, step
from toolchain.artefacts import Artefact, artefact, built

INSTALL_SECONDS = 600.0
STAMP = VENV / ".locks"
"""Hash over the locks that the virtual environment was made from."""


@dataclass(frozen=True)
class Ready:
    """What set-up found or made."""

    stack: str
    engines: tuple[Engine, ...]
    """Those of the stack's hosts, the first host's first."""
    env: dict[str, str]
    """Environment for Pulumi, with DOCKER_HOST where it is needed."""


def set_up(
    wanted: str | None, consent: Consent, *, dev: bool = False, images: bool = True, engines: bool = True
) -> Ready:
    """Find or make all that `pulumi up` needs, saying what is done.

    Args:
        wanted: the stack, None to choose.
        consent: asked before system packages or long builds.
        dev: also the packages of requirements-dev.txt.
        images: also what the stack's images are built from.
        engines: the Docker engines must answer; the local one is installed where that is possible.
    """
    python_packages(consent, dev=dev)
    _cli()
    env = pulumi_environment()
    if not wanted and stacks.backend_directory(env) is None:
        _build(tools.to_build(), consent)  # the CLI alone knows the stacks of such a backend
        env = pulumi_environment()
    with step("stack") as shown:
        choice = stacks.choose(wanted, env)
        shown.note = f"{choice.name}, {choice.reason}"
    settings = stacks.settings(choice.name)
    silent = _silent(settings.engines) if engines else []
    for each in silent:
        if not engine.can_install(each):
            raise engine.absent(each)

    builds = tools.to_build()
    if images:
        builds += [made for made in map(artefact, settings.artefacts) if not built(made)]
    tools.check(builds)
    packages = engine.missing_packages() if silent else []
    if engine.can_install_packages():
        packages += tools.missing_packages(builds)
    consent.obtain([*_packages_plan(packages), *tools.plan(builds)])
    _install_packages(packages)
    for each in silent:
        with step("start the Docker engine"):
            engine.start(each)
    _build(builds, consent)
    _plugins(pulumi_environment(), prepares=any(each.prepared for each in settings.engines))
    if engines and not tools.plugin_installed("docker"):
        admit_plugin(each for each in settings.engines if not each.prepared)
    return Ready(choice.name, settings.engines, pulumi_environment() | settings.variables)


def _silent(engines: Iterable[Engine]) -> list[Engine]:
    silent = []
    for each in engines:
        with step("Docker engine") as shown:
            try:
                shown.note = f"{each.host}, version {each.version()}"
            except Failure:
                shown.note = f"none answers at {each.host}"
                if each.prepared:
                    shown.note += ", `pulumi up` will prepare the host"
                else:
                    silent.append(each)
    return silent


def admit_plugin(engines: Iterable[Engine]) -> None:
    """See that engines let the Docker plugin in that is built here; it is older than the official one.

    Raises:
        Failure: one does not; names the fix.
    """
    for each in engines:
        if (api := each.oldest_api()) > tools.BUILT_PLUGIN_API:
            oldest, ours = (".".join(map(str, version)) for version in (api, tools.BUILT_PLUGIN_API))
            raise Failure(
                f"The Docker engine at {each.host} refuses the Docker plugin that is built from Go modules: it takes "
                f"API {oldest} and newer, and that speaks {ours}.\n"
                f'  There, put {{"min-api-version": "{ours}"}} into /etc/docker/daemon.json and restart the engine.'
            )


def where_state_is() -> str:
    """Say where state and passphrase are kept."""
    backend, passphrase = own_backend(), own_passphrase()
    kept = f"state in {backend}" if backend else "state in the backend of your own choice"
    return f"{kept}, " + (f"passphrase in {passphrase}" if passphrase else "passphrase your own")


def _locks(*, dev: bool) -> list[Path]:
    names = ["requirements.txt", *(["requirements-dev.txt"] if dev else [])]
    return [ROOT / name for name in names]


def _stamp(locks: list[Path]) -> str:
    return "".join(f"{lock.name} {hashlib.sha256(lock.read_bytes()).hexdigest()}\n" for lock in locks)


def python_packages(consent: Consent, *, dev: bool = False) -> None:
    """Make .venv from the locks; `dev`: also what lint and the tests need."""
    locks = _locks(dev=dev)
    python = VENV / "bin" / "python"
    with step("Python packages") as shown:
        # An environment with the development packages serves without them, too.
        known = STAMP.read_text() if STAMP.exists() and python.exists() else ""
        if all(line in known for line in _stamp(locks).splitlines()):
            shown.note = "there"
            return
        if known:
            locks = [lock for lock in _locks(dev=True) if lock in locks or lock.name in known]
    if not python.exists():
        if importlib.util.find_spec("ensurepip") is None:
            _ensure_venv_module(consent)
        with step("make .venv"):
            run([sys.executable, "-m", "venv", "--clear", VENV], timeout=120)
    env = os.environ | index(python)
    pinned = uv_requirement((ROOT / "requirements.txt").read_text())
    uv = VENV / "bin" / "uv"
    if not uv.exists():
        with step("install uv"):
            bootstrap = VENV / "uv.txt"
            bootstrap.write_text(pinned)
            run(
                [python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", bootstrap],
                timeout=INSTALL_SECONDS,
            )
    with step("install the locked packages"):
        run(
            [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, *locks],
            timeout=INSTALL_SECONDS,
            env=env,
        )
        STAMP.write_text(_stamp(locks))


def _ensure_venv_module(consent: Consent) -> None:
    if not engine.can_install_packages():
        raise Failure(
            f"{sys.executable} can't make a virtual environment: its module ensurepip is missing.\n"
            "  Debian, Ubuntu, WSL2: sudo apt-get install python3-venv, then run this again."
        )
    consent.obtain(_packages_plan(["python3-venv"]))
    _install_packages(["python3-venv"])


def uv_requirement(lock: str) -> str:
    """Return the lines of a lock that pin uv, hashes included."""
    match = re.search(r"^uv==.*(?:(?<=\\)\n.*)*", lock, re.MULTILINE)
    if not match:
        raise Failure("requirements.txt does not pin uv, which set-up installs the packages with.")
    return match.group() + "\n"


def index(python: Path) -> dict[str, str]:
    """Hand pip's index on to uv, which does not read pip's settings, where company networks have it."""
    if {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & os.environ.keys():
        return {}
    configured = os.environ.get("PIP_INDEX_URL", "")
    if not configured:
        try:
            configured = run([python, "-m", "pip", "config", "get", "global.index-url"], timeout=30).strip()
        except Failure:
            return {}
    return {"UV_DEFAULT_INDEX": configured}


def _cli() -> None:
    with step("Pulumi CLI") as shown:
        found = tools.cli()
        if found:
            shown.note = f"{found}"
            return
        if not tools.downloads_answer():
            shown.note = f"not on PATH, and {tools.INSTALLER} does not answer: built from source"
            return
        shown.note = f"from {tools.INSTALLER}"
        tools.install_cli()


def _build(builds: list[Artefact], consent: Consent) -> None:
    consent.obtain(tools.plan(builds))
    for made in builds:
        tools.build(made)


def _plugins(env: dict[str, str], *, prepares: bool) -> None:
    with step("Pulumi's plugins") as shown:
        missing = [name for name in tools.PLUGINS if not tools.plugin_installed(name)]
        if "docker" in missing and built(artefact("docker-plugin")):
            missing.remove("docker")
        if "docker" not in missing and not (prepares and missing):
            shown.note = "there"
            return
    if prepares and not tools.downloads_answer():
        raise Failure(
            "A host with `prepare: true` takes Pulumi's command plugin, which comes from Pulumi's download site alone, "
            f"and {tools.INSTALLER} does not answer.\n"
            "  Prepare it with scripts/prepare-host, which does the same without the plugin, and leave `prepare` out."
        )
    for name in missing:
        with step(f"install the {name} plugin"):
            tools.install_plugin(name, env)


def _packages_plan(names: list[str]) -> list[str]:
    return [f"install system packages: {' '.join(names)}, about 1 min, 500 MB of disk"] if names else []


def _install_packages(names: list[str]) -> None:
    if names:
        with step(f"install {' '.join(names)}"):
            engine.install_packages(names)
