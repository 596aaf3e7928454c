"""Where what runs flows runs: the first host or a further one, with the networks and images of it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.docker_host import DockerHost, DockerHostArgs
from components.images import Images
from components.networks import Network, own_network
from settings import FurtherHostSettings, ImageSettings


@dataclass(frozen=True)
class Site:
    """A Docker host as Prefect workers and Dask see it."""

    name: str | None
    """None for the first host."""
    host: DockerHost
    images: Images
    flow_networks: Sequence[Network]
    """What runs flows joins these."""
    dask_network: Network

    def placed(self, parent: pulumi.Resource) -> pulumi.ResourceOptions:
        """Options of a container here; its component may stand for several hosts."""
        return pulumi.ResourceOptions(parent=parent, provider=self.host.provider)


class FurtherHost(pulumi.ComponentResource):
    """A Docker host beside the first one, with a network and images of its own."""

    site: Site

    def __init__(self, name: str, settings: FurtherHostSettings, images: ImageSettings) -> None:
        super().__init__("prefect-environment:index:FurtherHost", name)
        host_args = DockerHostArgs(settings, settings.private_address, f"hosts.{name}", holds_data=False)
        host = DockerHost(f"host-{name}", host_args, pulumi.ResourceOptions(parent=self))
        there = pulumi.ResourceOptions(parent=self, providers=[host.provider])
        network = own_network(f"{name}-host-network", pulumi.ResourceOptions(parent=self, provider=host.provider))
        self.site = Site(name, host, Images(f"images-{name}", images, there, on=name), [network], network)
        self.register_outputs({})
