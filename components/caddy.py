"""Caddy: the one container that listens to others, and serves the hosts over HTTPS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pulumi
import pulumi_docker as docker

from components.caddyfile import ACME_ROOT, CERTIFICATES, Routes, caddyfile, global_options
from components.images import Images
from components.networks import Network
from components.service import Port, SecretFile, ServiceArgs, container, data_volume, http_health

CADDYFILE: Final = "/etc/caddy/Caddyfile"
DATA: Final = "/data"
AUTHORIZATION: Final = "prefect-api-authorization"


@dataclass(frozen=True)
class CaddyArgs:
    """What a Caddy needs."""

    routes: Routes
    authorization: pulumi.Output[str]
    """Value of the header that opens Prefect's API, for `routes` to name as `Caddy.authorization`."""
    images: Images
    network: Network


class Caddy(pulumi.ComponentResource):
    """A Caddy with its certificates, which outlive it: authorities limit how often they give new ones."""

    container: docker.Container
    authorization: Final = f"{{file.{SecretFile(AUTHORIZATION, '').path}}}"
    """Caddy's placeholder for the header's value, which is in no configuration that it shows."""

    def __init__(self, name: str, args: CaddyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Caddy", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        proxy, ca_bundle = args.routes.proxy, args.images.settings.ca_bundle
        text = global_options(proxy, own_authorities=ca_bundle is not None) + caddyfile(args.routes)
        own = proxy.certificate_directory
        self.container = container(
            name,
            ServiceArgs(
                image=args.images.caddy().image_id,
                networks=[args.network],
                memory_mb=proxy.memory_mb,
                memory_setting="proxy.memory_mb",
                command=["caddy", "run", "--config", CADDYFILE, "--adapter", "caddyfile"],
                ports=[Port(port, port, proxy.address) for port in (proxy.http_port, proxy.https_port)],
                volumes={DATA: data_volume(f"{name}-data", {"path": DATA}, child)},
                directories={CERTIFICATES: own.as_posix()} if own else {},
                files={CADDYFILE: text, **({ACME_ROOT: Path(ca_bundle).read_text()} if ca_bundle else {})},
                secret_files=[SecretFile(AUTHORIZATION, args.authorization)],
                # Its admin API, which listens inside alone.
                health=http_health(2019, "/config/apps/http/http_port"),
                # The official image's program asks for it, whatever the ports are.
                capabilities=["CAP_NET_BIND_SERVICE"],
            ),
            child,
        )
        self.register_outputs({})
