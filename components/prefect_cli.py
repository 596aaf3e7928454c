"""The CLI box: a shell beside the flows, with everything a worker has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pulumi

from components.naming import qualified
from components.service import ServiceArgs, container
from components.site import Site
from settings import CliSettings

FLOWS: Final = "/root/flows"


@dataclass(frozen=True)
class PrefectCliArgs:
    """What the CLI box needs."""

    settings: CliSettings
    site: Site
    client_env: Mapping[str, pulumi.Input[str]]
    flows_directory: str | None
    """On the Docker host; None: the box begins with an empty one."""


class PrefectCli(pulumi.ComponentResource):
    """A container that is made but not run: `command` opens a shell in it."""

    command: str

    def __init__(self, name: str, args: PrefectCliArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:PrefectCli", name, None, opts)
        container(
            name,
            ServiceArgs(
                image=args.site.images.worker.image_id,
                networks=args.site.flow_networks,
                memory_mb=args.settings.memory_mb,
                memory_setting="cli.memory_mb",
                command=["bash"],
                env=args.client_env,
                directories={FLOWS: args.flows_directory} if args.flows_directory else {},
                working_dir=FLOWS,
                interactive=True,
                stop_seconds=10,
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.command = args.site.host.command("start", "--attach", "--interactive", qualified(name))
        self.register_outputs({"command": self.command})
