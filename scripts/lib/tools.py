"""Finding, installing and building what is not a Python package: Pulumi's CLI and plugins, the artefacts."""

import os
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from scripts.lib.network import answers
from scripts.lib.paths import ROOT, pulumi_home, state
from scripts.lib.process import run
from scripts.lib.ui import Failure, step
from toolchain import artefacts
from toolchain.artefacts import Artefact, artefact, built

CLI_VERSION = "3.259.0"
OLDEST_CLI = (3, 216, 0)
"""The oldest CLI on PATH that is taken: dynamic resources keep what `read` found since then."""
PLUGINS = {"docker": "5.2.0", "command": "1.2.1"}
"""Versions of the SDKs in requirements.in."""
BUILT_PLUGIN_API = (1, 41)
"""What the Docker plugin that is built from Go modules speaks; engines from 29 on must be told to take it."""
OLDEST_GO = (1, 21)
"""The oldest Go that fetches a newer one by itself."""
INSTALLER = "https://get.pulumi.com/"
DOWNLOAD_SECONDS = 300.0
BUILD_SECONDS = 45 * 60.0


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in match.groups() if part) if match else ()


@cache
def _cli_on_path() -> Path | None:
    found = shutil.which("pulumi")
    if not found:
        return None
    try:
        return Path(found) if _version(run([found, "version"], timeout=20)) >= OLDEST_CLI else None
    except Failure:
        return None


def _official() -> Path:
    """Where the official installer puts the CLI for us, beside the built ones."""
    return artefacts.cache() / "pulumi-official" / CLI_VERSION


def cli() -> Path | None:
    """Return the Pulumi CLI: the one on PATH, the official installer's, or the built one."""
    candidates = [_cli_on_path(), _official() / "bin" / "pulumi", artefact("pulumi").path / "bin" / "pulumi"]
    return next((path for path in candidates if path and path.exists()), None)


def _has_language_host(pulumi: Path | None) -> bool:
    beside = pulumi and (pulumi.resolve().parent / "pulumi-language-python").exists()
    return bool(beside or shutil.which("pulumi-language-python"))


def plugin_installed(name: str) -> bool:
    """Say whether Pulumi finds a resource plugin: on PATH, or installed in the SDK's version."""
    version = PLUGINS[name]
    installed = pulumi_home() / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"
    return installed.exists() or shutil.which(f"pulumi-resource-{name}") is not None


def directories() -> list[Path]:
    """Return what goes on PATH so that Pulumi and its plugins are found: only what is needed and made."""
    pulumi = cli()
    found = [pulumi.parent] if pulumi and pulumi != _cli_on_path() else []
    if not _has_language_host(pulumi):
        found.append(artefact("language-python").path / "bin")
    if not plugin_installed("docker"):
        found.append(artefact("docker-plugin").path / "bin")
    return [path for path in found if path.is_dir()]


@cache
def downloads_answer() -> bool:
    """Say whether Pulumi's own download site answers."""
    return answers(INSTALLER)


def to_build() -> list[Artefact]:
    """Return the artefacts to build for Pulumi itself, where its download site does not answer."""
    pulumi = cli()
    wanted = {
        "pulumi": pulumi is None,
        "language-python": not _has_language_host(pulumi),
        "docker-plugin": not plugin_installed("docker"),
    }
    missing = [artefact(name) for name, needed in wanted.items() if needed and not built(artefact(name))]
    # Asked last: a closed network may take seconds to say no.
    return [] if missing and downloads_answer() else missing


def install_cli() -> None:
    """Run the official installer into the cache; it brings the Python language host, too."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "install.sh"
        with urllib.request.urlopen(INSTALLER, timeout=30) as response:
            script.write_bytes(response.read())
        run(
            ["sh", script, "--version", CLI_VERSION, "--install-root", _official(), "--no-edit-path"],
            timeout=DOWNLOAD_SECONDS,
        )


def install_plugin(name: str, env: dict[str, str]) -> None:
    """Install a resource plugin in the SDK's version from Pulumi's download site."""
    run(["pulumi", "plugin", "install", "resource", name, PLUGINS[name]], timeout=DOWNLOAD_SECONDS, env=env)


def plan(builds: Iterable[Artefact]) -> list[str]:
    """Describe builds for the user's consent."""
    return [f"build the {made.what}: about {made.minutes} min, {made.megabytes} MB of disk" for made in builds]


def build(made: Artefact) -> None:
    """Build an artefact into the cache.

    Its recipe runs in a directory beside the final place and gets there by one rename, so a broken build
    leaves nothing that looks made, and two at once do no harm.

    Raises:
        Failure: a tool that it needs is missing (names the fix), or the build failed (names the log).
    """
    check([made])
    if made.name == "rootfs":
        _check_debian()
    if made.name == "authelia":
        _check_compiler()
    place = made.directory
    place.parent.mkdir(parents=True, exist_ok=True)
    logs = state() / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"toolchain-{made.name}.log"
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=place.parent))
    try:
        work.chmod(0o755)
        with log.open("w") as out, step(f"build the {made.what} (about {made.minutes} min)"):
            try:
                done = subprocess.run(
                    [artefacts.RECIPES / made.name / "build", work],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    timeout=BUILD_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise Failure(f"The build took longer than {BUILD_SECONDS / 60:.0f} min; see {log}") from error
            if done.returncode:
                tail = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-10:])
                raise Failure(f"The build of the {made.what} failed; its whole output is in {log}\n{tail}")
            shutil.rmtree(place, ignore_errors=True)
            work.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def missing_packages(builds: Iterable[Artefact]) -> list[str]:
    """Return Debian's packages that builds need and that are not there."""
    names = {made.name for made in builds}
    missing = ["mmdebstrap"] if "rootfs" in names and not shutil.which("mmdebstrap") else []
    if "authelia" in names and not shutil.which("gcc"):
        missing += ["gcc", "libc6-dev"]
    return missing


def check(builds: Iterable[Artefact]) -> None:
    """Make sure that what builds need and set-up does not install is there, before anything is begun.

    Raises:
        Failure: Go is missing or too old; names the fix.
    """
    what = [made.what for made in builds if (artefacts.RECIPES / made.name / "go.mod").exists()]
    if not what:
        return
    go = shutil.which("go")
    version = _version(run([go, "version"], timeout=20, cwd=ROOT)) if go else ()
    if version < OLDEST_GO:
        found = f"found {'.'.join(map(str, version))} ({go})" if version else "found none on PATH"
        raise Failure(
            f"Go 1.21 or newer is needed to build the {', the '.join(what)}: {found}.\n"
            "  Any system: https://go.dev/dl, or your company's mirror of it, unpacked to /usr/local/go\n"
            "  Debian 12: apt-get install -t bookworm-backports golang-go; macOS: brew install go\n"
            "Go 1.21 is enough: it fetches the newer one that is needed from the module proxy."
        )


def _check_compiler() -> None:
    if not shutil.which("gcc"):
        raise Failure(
            "Authelia is built with a C compiler, as SQLite is part of it: gcc is not on PATH.\n"
            "  Debian, Ubuntu, WSL2: apt-get install gcc libc6-dev"
        )


def _check_debian() -> None:
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        raise Failure(
            "The Debian root filesystem is made by mmdebstrap, as root on Debian or Ubuntu.\n"
            "  Debian, Ubuntu, WSL2: apt-get install mmdebstrap, then sudo scripts/toolchain rootfs\n"
            "  macOS: take a stack with images from a registry (scripts/up --stack dev)"
        )
