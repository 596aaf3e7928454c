"""A Caddy that is there already: it gets a file with the stack's routes, and nothing else of it is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.docker_host import DockerHost
from providers.caddy.site_file import SiteFile, SiteFileArgs
from settings import ExternalProxySettings


@dataclass(frozen=True)
class ExternalCaddyArgs:
    """Which Caddy, and what it is to serve."""

    settings: ExternalProxySettings
    host: DockerHost
    """Where it runs."""
    hosts: Sequence[str]
    """Names that the routes are for."""
    routes: pulumi.Output[str]
    """Part of a Caddyfile."""
    authorization: pulumi.Output[str]
    """Value of the header in the routes that opens Prefect's API, such as `Basic YWRtaW46...`."""
    behind: Sequence[pulumi.Resource]
    """What the routes lead to. It is made first: where Caddy refuses the routes, Pulumi begins nothing more, and a
    container that is replaced at that moment would be gone until the next time."""


class ExternalCaddy(pulumi.ComponentResource):
    """The stack's routes in somebody's Caddy; they go with the stack."""

    def __init__(self, name: str, args: ExternalCaddyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:ExternalCaddy", name, None, opts)
        SiteFile(
            f"{name}-routes",
            SiteFileArgs(
                args.host.engine,
                container=args.settings.container,
                path=args.settings.snippet.as_posix(),
                caddyfile=args.settings.caddyfile.as_posix(),
                content=args.routes,
                hosts=args.hosts,
                # The credential alone: Caddy may quote it without its scheme.
                credentials=args.authorization.apply(lambda value: [value.rpartition(" ")[2]]),
            ),
            pulumi.ResourceOptions(parent=self, depends_on=args.behind),
        )
        self.register_outputs({})
