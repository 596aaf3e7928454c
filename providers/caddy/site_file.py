"""A file of a Caddy's configuration, in a container that is there already."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final

import pulumi

from providers.base import Args, Found, Props, Provider, ProviderError, Resource, Value, matching
from providers.connection import EngineConnection, plain
from providers.engine import Container, Engine, EngineClient, Said

MARK: Final = "# Managed by Pulumi: "
"""Precedes the mark in the file's first line; it warns who opens it, too."""

READ: Final = """
[ -e "$1" ] || exit 64
cat "$1" || exit
! [ -e "$2.old" ] && ! [ -e "$2.none" ] || exit 65
"""
"""Exit codes: 64 there is no file; 65 put_site.sh was killed, and nobody knows whether Caddy takes what is there."""
MISSING: Final = 64
UNFINISHED: Final = 65

NOT_RELOADED: Final = 73
REFUSALS: Final = {
    64: "there is no caddy command in it. Name Caddy's own container in `container`.",
    65: "the file can't be written: {said}. Let the user that the container runs as write to {directory}.",
    66: "the connection broke while it was sent. Run the command again.",
    67: "it was told to stop. Run the command again.",
    68: "Caddy refuses {caddyfile} even without it: {said}. Mend what it names; what was served before still is.",
    69: "Caddy can't be reloaded, since {caddyfile} says `admin off`. Take that out and restart the container once; "
    "or have the routes as text only, and put them there by hand.",
    70: "{caddyfile} has routes of its own for {said}, and Caddy would serve only one of the two. Take them out there, "
    "or choose another host.",
    71: "Caddy refuses it: {said}. Mend what it names; what was served before still is.",
    72: "{caddyfile} does not import it, so Caddy would not serve {said}. Add the line "
    "`import {directory}/*{suffix}` to it, outside of all braces.",
    NOT_RELOADED: "Caddy could not be reloaded: {said}. What was served before still is.",
}
"""Exit codes of put_site.sh."""
NO_ADMIN: Final = "connection refused"

path_rule = matching(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+", "must be a whole path of letters, digits, dots and dashes")


def content_rule(value: Value) -> str | None:
    """Something that can be told from a file that is not there."""
    return None if isinstance(value, str) and value.strip() else "must be a part of a Caddyfile, not nothing"


@dataclass(frozen=True)
class SiteFileArgs(Args[EngineConnection]):
    """A file that a Caddyfile imports (https://caddyserver.com/docs/caddyfile/directives/import)."""

    container: str
    """Name of Caddy's container; another one is another file."""
    path: str
    """Of the file in the container, on a mount of it; another one is another file."""
    caddyfile: str
    """Path of the Caddyfile that Caddy runs with, in the container."""
    content: pulumi.Input[str]
    """Sites, as in a Caddyfile. Secret as a whole."""
    hosts: Sequence[str]
    """Host names that Caddy serves with it, and not without."""
    credentials: pulumi.Input[Sequence[str]] = ()
    """What in the content Caddy's words may not show."""


class SiteFileProvider(Provider[SiteFileArgs, EngineConnection, EngineClient]):
    """What Caddy refuses is taken back, so that it goes on with what it serves and starts again with it."""

    server = Engine()
    args_type = SiteFileArgs
    kind = "site file in container"
    identity = ("container", "path")
    secrets = ("content", "credentials")
    state_only = Provider.state_only | {"credentials"}
    rules: ClassVar = {
        "container": matching(r"[A-Za-z0-9][A-Za-z0-9_.-]+", "must be the name of a container"),
        "path": path_rule,
        "caddyfile": path_rule,
        "content": content_rule,
    }

    def id(self, args: SiteFileArgs) -> str:
        """The container: two files with the same hosts can't live side by side in one Caddy."""
        return args.container

    def find(self, client: EngineClient, args: SiteFileArgs) -> Found | None:
        """An empty file is as good as none: a Caddyfile that imports it by its whole name needs one."""
        container = client.container(args.container)
        if container is None:
            return None
        said = client.shell(container, READ, args.path, _beside(args.path))
        if said.code == MISSING:
            return None
        if said.code not in {0, UNFINISHED}:
            raise ProviderError(f"{args.path} can't be read: {said.last}")
        marked = re.match(rf"{MARK}(\S+)\n", said.output)
        content = said.output[marked.end() :] if marked else said.output
        owner = marked[1] if marked else "" if content else args.owner
        return Found({"content": None if said.code else content}, owner)

    def make(self, client: EngineClient, args: SiteFileArgs) -> Props:
        container = client.container(args.container)
        if container is None:
            raise ProviderError(
                "there is no such container; nothing was changed. Start Caddy, or mend its name in `container`."
            )
        directory = PurePosixPath(args.path).parent
        mount = container.mount(directory)
        if mount is None or not mount.lasting:
            raise ProviderError(
                f"{directory} lies on no mount, so {args.path} would be gone when the container is made anew; nothing "
                f"was changed. Start the container with a directory of the host or a volume at {directory}, or name "
                "another path."
            )
        if not mount.writable:
            raise ProviderError(
                f"{mount.path} is mounted read-only, so {args.path} can't be written; nothing was changed. Mount it "
                "without `ro`, or name another path."
            )
        self._put(client, container, args, f"{MARK}{args.owner}\n{plain(args.content)}", args.hosts)
        return {}

    def change(self, client: EngineClient, args: SiteFileArgs, _found: Found) -> Props:
        return self.make(client, args)

    def remove(self, client: EngineClient, args: SiteFileArgs, _found: Found) -> None:
        container = client.container(args.container)
        if container:
            self._put(client, container, args, "", ())

    def _put(
        self, client: EngineClient, container: Container, args: SiteFileArgs, text: str, hosts: Sequence[str]
    ) -> None:
        script = Path(__file__).with_name("put_site.sh").read_text()
        size = str(len(text.encode()))
        said = client.shell(container, script, args.path, args.caddyfile, size, *hosts, given=text)
        if said.code:
            raise ProviderError(f"{args.path} is as it was: {_refusal(said, args)}")


def _beside(path: str) -> str:
    """Where put_site.sh keeps what it may go back to, without the ending."""
    return PurePosixPath(path).with_name(f".{PurePosixPath(path).name}").as_posix()


def _refusal(said: Said, args: SiteFileArgs) -> str:
    if said.code == NOT_RELOADED and NO_ADMIN in said.last:
        return (
            f"Caddy runs without its admin API, so it can't be reloaded: {said.last}. Take `admin off` out of "
            f"{args.caddyfile} if it is there, and restart the container once."
        )
    path = PurePosixPath(args.path)
    return REFUSALS.get(said.code, "{said}").format(
        said=said.last,
        caddyfile=args.caddyfile,
        directory=path.parent,
        suffix=path.suffix,
    )


class SiteFile(Resource, module="caddy", name="SiteFile"):
    """A file of a Caddy's configuration; create is refused where a foreign one of its name exists, unless `adopt`."""

    container: pulumi.Output[str]
    path: pulumi.Output[str]

    def __init__(self, name: str, args: SiteFileArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(SiteFileProvider(), name, args, opts, secret=("content", "credentials"))
