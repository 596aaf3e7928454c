"""The gateway: where everything that runs flows finds Prefect's API, also while the server is away for a moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi

from components import prefect_server
from components.docker_host import DockerHost
from components.image import Image
from components.networks import Networks
from components.prefect_server import PrefectServer
from components.service import Port, ServiceArgs, container
from settings import ServerSettings

NAME: Final = "prefect-api"
PORT: Final = prefect_server.PORT


@dataclass(frozen=True)
class PrefectGatewayArgs:
    """What a gateway needs."""

    settings: ServerSettings
    image: Image
    networks: Networks
    server: PrefectServer
    host: DockerHost


class PrefectGateway(pulumi.ComponentResource):
    """A relay of connections that holds those for which there is no server yet; `images/prefect/hold` is what it does.

    It knows no secret, and stays as it is when the server is replaced.
    """

    def __init__(self, name: str, args: PrefectGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:PrefectGateway", name, None, opts)
        address = args.host.private_address
        container(
            name,
            ServiceArgs(
                image=args.image.image_id,
                networks=args.networks.flows,
                alias=name,
                memory_mb=args.settings.memory_mb,
                memory_setting="server.memory_mb",
                command=["hold", str(PORT), f"{args.networks.host('prefect-server')}:{prefect_server.PORT}"],
                ports=[Port(args.settings.port, PORT, address)] if address else [],
                # Its own alone: whether the server is well, the server's says.
                health=["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"],
                stop_seconds=10,
            ),
            # The server of a stack with further hosts published this port itself, before there was a gateway.
            pulumi.ResourceOptions(parent=self, depends_on=[args.server.container] if address else []),
        )
        self.register_outputs({})
