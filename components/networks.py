"""The networks, and which host names answer on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pulumi
import pulumi_docker as docker

from components.naming import labels, qualified
from settings import NetworksSettings


@dataclass(frozen=True)
class Network:
    """A network that containers join."""

    name: pulumi.Output[str]
    short_names: bool
    """Whether containers answer to their short names on it: only so where no other stack can hear."""


class Networks(pulumi.ComponentResource):
    """The article's four networks, and one that only the database and its servers join."""

    prefect: Network
    minio: Network
    caddy: Network
    dask: Network

    def __init__(self, name: str, args: NetworksSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Networks", name, None, opts)
        self._opts = pulumi.ResourceOptions(parent=self)
        self._all_short = args.claim_short_names or not args.external
        self.prefect = self._network("prefect", args)
        self.minio = self._network("minio", args)
        self.caddy = self._network("caddy", args)
        self.dask = self._network("dask", args)
        self.register_outputs({})

    @property
    def flows(self) -> list[Network]:
        """What runs flows joins these: the API, Dask and the store are on them."""
        return [self.prefect, self.dask, self.minio]

    @property
    def served(self) -> list[Network]:
        """The servers that people and flows use join these."""
        return [self.prefect, self.caddy, self.minio, self.dask]

    @cached_property
    def database(self) -> Network:
        """The database's network: nothing in it needs the outside, and nothing outside needs it."""
        return own_network("database-network", self._opts, internal=True)

    @cached_property
    def metrics(self) -> Network:
        """Where Prometheus meets those that ask others for it, and Grafana meets Prometheus."""
        return own_network("metrics-network", self._opts)

    def host(self, container: str, alias: str | None = None) -> str:
        """The one name under which a container answers on every network it joins; its alias is its name by default.

        Two stacks on one external network would both answer to a short name, so there it is the container's own.
        """
        return (alias or container) if self._all_short else qualified(container)

    def _network(self, name: str, args: NetworksSettings) -> Network:
        existing = args.external.get(name)
        if existing:
            return Network(pulumi.Output.from_input(existing), args.claim_short_names)
        return own_network(f"{name}-network", self._opts)


def own_network(name: str, opts: pulumi.ResourceOptions, *, internal: bool = False) -> Network:
    """Declare the network `<project>-<stack>-<name>`."""
    network = docker.Network(
        name,
        name=qualified(name),
        internal=internal,
        labels=[docker.NetworkLabelArgs(label=k, value=v) for k, v in labels(name).items()],
        opts=opts,
    )
    return Network(network.name, short_names=True)
