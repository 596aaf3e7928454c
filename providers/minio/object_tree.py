"""A directory kept in a bucket, under a prefix that is the hash of its content."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final

import pulumi

from providers.base import Args, Found, Props, ProviderError, Resource, matching
from providers.connection import MinioConnection
from providers.minio.bucket import bucket_name
from providers.minio.server import MinioClient, MinioProvider, unless

IGNORED: Final = frozenset({"__pycache__", ".git", ".venv", ".DS_Store"})
HASH: Final = re.compile(r"[0-9a-f]{16}")
SMALLEST_PART: Final = 5 * 1024**2

prefix = matching(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*", "must be a path like `greetings`, no slash at its ends"
)


@dataclass(frozen=True)
class Tree:
    """The files of a directory."""

    hash: str
    """16 hex digits over all paths and contents."""
    files: Mapping[str, str]
    """MD5 of each file by its path, relative with slashes: S3's ETag of an object put at once."""


def tree(source: str | Path) -> Tree:
    """Read a directory, without caches, `.git` and `.venv`.

    Raises: ValueError where it is missing or holds no file.
    """
    root = Path(source)
    if not root.is_dir():
        raise ValueError(f"{root} is not a directory: there is nothing to upload. Name the directory of the project.")
    files = {
        path.relative_to(root).as_posix(): _md5(path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and IGNORED.isdisjoint(path.relative_to(root).parts)
    }
    if not files:
        raise ValueError(f"{root} holds no file: there is nothing to upload. Name the directory of the project.")
    listing = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return Tree(hashlib.sha256(listing.encode()).hexdigest()[:16], files)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class ObjectTreeArgs(Args[MinioConnection]):
    """What is uploaded where."""

    bucket: str
    prefix: str
    """Objects go to `<prefix>/<hash>/<path>`, e.g. prefix `greetings`."""
    source: str
    """The directory, absolute or relative to the program."""
    files: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """As in Tree; filled in by the resource, never by the caller."""
    object_prefix: str = field(default="", kw_only=True)
    """`<prefix>/<hash>`; filled in by the resource, never by the caller."""

    def filled(self, local: Tree) -> ObjectTreeArgs:
        """Return them with what was read of the directory."""
        return replace(self, files=local.files, object_prefix=f"{self.prefix}/{local.hash}")


class ObjectTreeProvider(MinioProvider[ObjectTreeArgs]):
    """A new content is uploaded whole beside the old one, which stays for the runs that still read it."""

    args_type = ObjectTreeArgs
    kind = "object tree"
    identity = ("bucket", "prefix")
    state_only = MinioProvider.state_only | {"source"}
    rules: ClassVar = {"bucket": bucket_name, "prefix": prefix}

    def find(self, client: MinioClient, args: ObjectTreeArgs) -> Found | None:
        """What disagrees with no file of ours is ours: a part of an upload that died."""
        present = unless({"NoSuchBucket"}, lambda: _contents(client, args))
        if not present:
            return None
        here = args.object_prefix.rpartition("/")[2]
        files = {name: etag for name, (etag, _) in present.get(here, {}).items()}
        return Found({"files": files}, args.owner if files.items() <= args.files.items() else "")

    def make(self, client: MinioClient, args: ObjectTreeArgs) -> Props:
        for name, digest in args.files.items():
            content = (Path(args.source) / name).read_bytes()
            if _md5(content) != digest:
                raise ProviderError(f"{args.source}/{name} has changed since the preview. Run the command again.")
            client.s3.put_object(
                bucket_name=args.bucket,
                object_name=f"{args.object_prefix}/{name}",
                data=io.BytesIO(content),
                length=len(content),
                # One part, so that the ETag is the MD5 of the content.
                part_size=max(len(content), SMALLEST_PART),
            )
        return {}

    def change(self, client: MinioClient, args: ObjectTreeArgs, _found: Found) -> Props:
        """Upload all files again, then delete what is neither of this content nor of the one before."""
        self.make(client, args)
        present = _contents(client, args)
        here = args.object_prefix.rpartition("/")[2]
        others = sorted(present.keys() - {here}, key=lambda each: max(at for _, at in present[each].values()))
        _delete(
            client,
            args.bucket,
            [f"{args.object_prefix}/{name}" for name in present[here].keys() - args.files.keys()]
            + [f"{args.prefix}/{old}/{name}" for old in others[:-1] for name in present[old]],
        )
        return {}

    def remove(self, client: MinioClient, args: ObjectTreeArgs, _found: Found) -> None:
        present = _contents(client, args)
        _delete(
            client,
            args.bucket,
            [f"{args.prefix}/{each}/{name}" for each in present for name in present[each]],
        )


def _contents(client: MinioClient, args: ObjectTreeArgs) -> dict[str, dict[str, tuple[str, datetime]]]:
    """Return ETag and time of the objects by content hash and path."""
    present: dict[str, dict[str, tuple[str, datetime]]] = {}
    start = f"{args.prefix}/"
    for each in client.s3.list_objects(bucket_name=args.bucket, prefix=start, recursive=True):
        content, _, name = (each.object_name or "").removeprefix(start).partition("/")
        if HASH.fullmatch(content) and name:
            at = each.last_modified or datetime.min.replace(tzinfo=UTC)
            present.setdefault(content, {})[name] = ((each.etag or "").strip('"'), at)
    return present


def _delete(client: MinioClient, bucket: str, names: list[str]) -> None:
    for name in names:
        client.s3.remove_object(bucket_name=bucket, object_name=name)


class ObjectTree(Resource, module="minio", name="ObjectTree"):
    """A directory in a bucket; what reads it waits for the upload by using `object_prefix`."""

    object_prefix: pulumi.Output[str]
    """`<prefix>/<hash>`, known in a preview."""
    content_hash: str
    """Hash of the directory's content, as it was when the program read it."""

    def __init__(self, name: str, args: ObjectTreeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        local = tree(args.source)
        super().__init__(ObjectTreeProvider(), name, args.filled(local), opts)
        self.content_hash = local.hash
