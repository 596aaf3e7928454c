"""Images: pulled by name, or built on the Docker host from a context that is staged below `.build/`.

An edited Dockerfile is no change to the Docker provider, so the tag of a built image is a hash over everything that
goes into it; large artefacts (the Debian root filesystem, server binaries) count by the key of their recipe, since
their bytes differ from day to day.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pulumi
import pulumi_docker as docker

from components.naming import labels
from toolchain.artefacts import Artefact, artefact, built

IMAGES: Final = Path("images")
STAGING: Final = Path(".build")
HASH_LENGTH: Final = 12


@dataclass(frozen=True)
class Image:
    """An image that containers can run and other images can be built on."""

    name: str
    """Its reference, known before it exists."""
    image_id: pulumi.Output[str]
    resource: docker.RemoteImage


@dataclass(frozen=True)
class BuildArgs:
    """How a built image comes about."""

    recipe: str
    """Directory below images/ with the Dockerfile and what it copies."""
    parent: Image | str | None = None
    """Passed as build argument BASE: an image of ours, a reference to pull, or none (FROM scratch)."""
    artefact: str | None = None
    """Name of the artefact that the Dockerfile adds, staged under the name of its file."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name to text of files that settings make, staged beside the recipe's."""
    build_args: Mapping[str, str] = field(default_factory=dict)


def pulled(name: str, reference: str, opts: pulumi.ResourceOptions) -> Image:
    """Declare an image that the Docker host pulls by reference."""
    resource = docker.RemoteImage(name, name=reference, keep_locally=True, opts=opts)
    return Image(reference, resource.image_id, resource)


def build(name: str, args: BuildArgs, opts: pulumi.ResourceOptions, on: str = "") -> Image:
    """Declare the image `<project>-<stack>/<name>:<hash>`, built on the Docker host.

    `on` ends the names of the resource and of the staged context: `@<host>` for a further host, which has its own.

    Raises:
        pulumi.RunError: an artefact was not made yet; names the command that makes it.
    """
    needed = artefact(args.artefact) if args.artefact else None
    if needed and not built(needed):
        raise pulumi.RunError(
            f"image {name} needs the {needed.what}, which is not in the cache. "
            f"Make it with `scripts/toolchain {needed.name}` (about {needed.minutes} min, {needed.megabytes} MB)"
        )
    base = args.parent.name if isinstance(args.parent, Image) else args.parent
    build_args = {**args.build_args, **({"BASE": base} if base else {})}
    recipe = {path.relative_to(IMAGES / args.recipe): path for path in _files(IMAGES / args.recipe)}
    key = _hash(recipe, args.files, build_args, needed)
    context = _stage(f"{name}{on}", recipe, args.files, needed)
    tag = f"{pulumi.get_project()}-{pulumi.get_stack()}/{name}:{key}"
    after = [args.parent.resource] if isinstance(args.parent, Image) else []
    resource = docker.RemoteImage(
        f"{name}{on}",
        name=tag,
        build=docker.RemoteImageBuildArgs(
            context=context.as_posix(),
            dockerfile="Dockerfile",
            tags=[tag],
            build_args=build_args,
            label=labels(name),
            # Else the newer Docker provider builds with buildx, which knows this machine's engine and not the host's.
            use_legacy_builder=True,
        ),
        # A rebuilt image has another tag; removing the old one here would race with containers that still use it.
        keep_locally=True,
        triggers={"hash": key},
        opts=pulumi.ResourceOptions.merge(pulumi.ResourceOptions(depends_on=after), opts),
    )
    return Image(tag, resource.image_id, resource)


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.suffix != ".in")


def _hash(
    recipe: Mapping[Path, Path],
    files: Mapping[str, str],
    build_args: Mapping[str, str],
    needed: Artefact | None,
) -> str:
    digest = hashlib.sha256()
    parts = [
        *(
            (path.as_posix(), f"{os.access(source, os.X_OK)}".encode() + source.read_bytes())
            for path, source in recipe.items()
        ),
        *((file, text.encode()) for file, text in sorted(files.items())),
        *((f"--build-arg {key}", value.encode()) for key, value in sorted(build_args.items())),
        *((f"artefact {a.name}", a.key.encode()) for a in [needed] if a),
    ]
    for label, content in parts:
        digest.update(f"{label}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:HASH_LENGTH]


def _stage(name: str, recipe: Mapping[Path, Path], files: Mapping[str, str], needed: Artefact | None) -> Path:
    """Lay the build context out; its path is relative, so that every clone has the same state."""
    context = STAGING / pulumi.get_stack() / name
    shutil.rmtree(context, ignore_errors=True)
    for path, source in recipe.items():
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, context / path)
    for file, text in files.items():
        (context / file).write_text(text)
    if needed:
        # Hundreds of megabytes: linked where the cache is on the same file system.
        try:
            os.link(needed.path, context / needed.path.name)
        except OSError:
            shutil.copy2(needed.path, context / needed.path.name)
    return context
