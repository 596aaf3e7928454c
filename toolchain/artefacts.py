"""What the project makes itself where no download site or image registry answers, and where it is kept.

Standard library only: the set-up scripts import this before anything is installed, the program after.
"""

import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

RECIPES = Path(__file__).resolve().parent
KEY_LENGTH = 12


@dataclass(frozen=True)
class Artefact:
    """A thing that a recipe, the directory toolchain/<name>/, makes once into the user's cache."""

    name: str
    key: str
    """Hash over the recipe and the architecture, never over the bytes made: those differ from day to day."""
    path: Path
    """The file in the cache, or the directory that holds bin/."""
    directory: Path
    """What the recipe fills: the file's directory, or `path` itself."""
    minutes: int
    """How long it takes on two cores, rounded up."""
    megabytes: int
    """Disk that the making takes in all, Go's caches included."""
    what: str


@dataclass(frozen=True)
class _Recipe:
    what: str
    file: str
    minutes: int
    megabytes: int


_RECIPES = {
    "actionlint": _Recipe("linter of GitHub workflows", "", 1, 200),
    "authelia": _Recipe("Authelia server", "authelia", 5, 1500),
    "caddy": _Recipe("Caddy server", "caddy", 3, 2000),
    "docker-plugin": _Recipe("Docker plugin of Pulumi", "", 2, 2000),
    "language-python": _Recipe("Python language host of Pulumi", "", 1, 800),
    "minio": _Recipe("MinIO server", "minio", 6, 2500),
    "pulumi": _Recipe("Pulumi CLI", "", 6, 3500),
    "rootfs": _Recipe("Debian root filesystem", "rootfs.tar", 1, 500),
}
NAMES = tuple(_RECIPES)


def cache() -> Path:
    """Return the directory of all artefacts: prefect-environment/ in $XDG_CACHE_HOME (default ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prefect-environment"


def artefact(name: str) -> Artefact:
    """Describe an artefact, made or not.

    Raises:
        KeyError: no recipe has this name; NAMES lists them.
    """
    recipe = _RECIPES[name]
    key = _key(RECIPES / name)
    directory = cache() / name / key
    return Artefact(name, key, directory / recipe.file, directory, recipe.minutes, recipe.megabytes, recipe.what)


def built(made: Artefact) -> bool:
    """Say whether the artefact is in the cache; it gets there in one rename, so never in part."""
    return made.path.exists()


def _key(recipe: Path) -> str:
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()}\0".encode())
    for path in sorted(path for path in recipe.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(recipe).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:KEY_LENGTH]
