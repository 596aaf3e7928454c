"""Versions: what the locks pin, and what would give server, workers and flows different ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[1]
SERVER_LOCK: Final = "images/prefect/requirements.txt"
WORKER_LOCK: Final = "images/worker/requirements.txt"
PROGRAM_LOCK: Final = "requirements.txt"
OFFICIAL: Final = "prefecthq/prefect"
"""Repository of the images whose tags tell Prefect's version."""
PIN: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
TAG: Final = re.compile(r":v?(\d+(?:\.\d+)*)[^:/]*$")


def locked(lock: str) -> dict[str, str]:
    """Package to the version that a lock of the project pins."""
    text = (ROOT / lock).read_text()
    return {canonicalize_name(name): version for name, version in PIN.findall(text)}


def version_in(reference: str) -> tuple[int, ...]:
    """The numbers that the tag of an image's reference begins with; none where it tells no version."""
    tag = TAG.search(reference.partition("@")[0])
    return tuple(map(int, tag[1].split("."))) if tag else ()


def lock_problems(prefect: Mapping[str, str]) -> Iterator[str]:
    """What is wrong where locks differ in Prefect; `prefect` is lock to version, the server's first."""
    (server_lock, server), *others = prefect.items()
    for lock, version in others:
        if version != server:
            yield (
                f"{lock}: it has Prefect {version}, and {server_lock}, which the server runs, {server}: requests of "
                "one would be refused or misread by the other. Write the same `prefect==` into both .in files, and "
                "compile the locks anew with the command at the head of each"
            )


def base_problems(reference: str, prefect: str) -> Iterator[str]:
    """What is wrong with an official image of another Prefect than the lock, which is installed over it."""
    repository = reference.partition("@")[0].rpartition(":")[0]
    told = version_in(reference)
    if repository.endswith(OFFICIAL) and told != tuple(map(int, prefect.split(".")))[: len(told)]:
        yield (
            f"images.prefect: {reference} is another version than the {prefect} that {SERVER_LOCK} installs over it, "
            f"and which server and workers would run. Name {OFFICIAL}:{prefect}-python3.11; for another version, see "
            "docs/upgrades.md"
        )


def requirement_problems(path: str, lines: Iterable[str], lock: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with pip requirements, set at `path`, that the worker's lock can't meet.

    What is no name with versions (an option, a URL, one for certain machines), the build judges.
    """
    for line in lines:
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue
        version = lock.get(canonicalize_name(wanted.name))
        if version is None or wanted.marker or wanted.specifier.contains(version, prereleases=True):
            continue
        yield (
            f"{path}: {line} does not fit {wanted.name} {version}, which server, workers and Dask share by "
            f"{WORKER_LOCK}; the image could not be built. Leave the version out, or take one that includes {version}"
        )
