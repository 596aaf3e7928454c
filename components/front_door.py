"""The front door: a Caddy, the stack's own or one that is there already, and the Authelia that it asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import pulumi

from components import grafana, minio, prefect_server, prometheus
from components.authelia import Authelia, AutheliaArgs
from components.authelia_config import PORT as AUTHELIA_PORT
from components.caddy import Caddy, CaddyArgs
from components.caddyfile import LogIn, Routes, caddyfile, sites
from components.docker_host import DockerHost
from components.external_caddy import ExternalCaddy, ExternalCaddyArgs
from components.images import Images
from components.networks import Networks
from components.postgres import Database
from outputs import Outputs
from settings import AuthMode, ProxyMode, Settings


@dataclass(frozen=True)
class FrontDoorArgs:
    """What a front door needs."""

    settings: Settings
    images: Images
    networks: Networks
    host: DockerHost
    authorization: pulumi.Output[str]
    """Value of the header that opens Prefect's API."""
    database: Database | None
    """Authelia's, where it has one in the stack's Postgres."""
    behind: Sequence[pulumi.Resource]
    """What is served."""


class FrontDoor(pulumi.ComponentResource):
    """The hosts of `settings.proxy`, served over HTTPS to those whom `settings.auth` lets in."""

    outputs: Outputs
    hosts: Sequence[str]
    """Names that it has certificates for."""

    def __init__(self, name: str, args: FrontDoorArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:FrontDoor", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings, proxy, network = args.settings, args.settings.proxy, args.networks.caddy
        self.outputs = _urls(settings)
        another = settings.auth.external and settings.auth.external.portal
        self.hosts = [str(urlsplit(str(url)).hostname) for url in self.outputs.values() if url != another]
        if settings.auth.mode is AuthMode.MANAGED:
            authelia_args = AutheliaArgs(
                settings.auth,
                settings.guarded,
                settings.rotation.authelia,
                proxy,
                args.images,
                [network],
                args.database,
            )
            Authelia("authelia", authelia_args, child)
        if proxy.mode is ProxyMode.MANAGED:
            routes = _routes(args, Caddy.authorization)
            Caddy("caddy", CaddyArgs(routes, args.authorization, args.images, network), child)
        else:
            text = args.authorization.apply(lambda value: caddyfile(_routes(args, value)))
            self.outputs["caddyfile"] = text
            if proxy.external:
                hosts = [str(urlsplit(address).hostname) for address in sites(_routes(args, ""))]
                caddy_args = ExternalCaddyArgs(proxy.external, args.host, hosts, text, args.authorization, args.behind)
                ExternalCaddy("caddy", caddy_args, child)
        self.register_outputs({})


def _log_in(args: FrontDoorArgs) -> LogIn | None:
    auth, proxy = args.settings.auth, args.settings.proxy
    if auth.external:
        return LogIn(auth.external.address, auth.external.endpoint, auth.external.portal, served=False)
    if auth.mode is AuthMode.MANAGED:
        address = f"{args.networks.host('authelia')}:{AUTHELIA_PORT}"
        return LogIn(address, args.images.settings.authelia_endpoint, f"{proxy.url(auth.portal)}/", served=True)
    return None


def _routes(args: FrontDoorArgs, authorization: str) -> Routes:
    settings, host = args.settings, args.networks.host
    storage = host("minio") if settings.serves_storage else None
    return Routes(
        proxy=settings.proxy,
        log_in=_log_in(args),
        prefect=f"{host('prefect-server')}:{prefect_server.PORT}" if settings.profiles.orion else None,
        authorization=authorization,
        s3=storage and f"{storage}:{minio.API_PORT}",
        console=storage and f"{storage}:{minio.CONSOLE_PORT}",
        metrics=f"{host(prometheus.NAME)}:{prometheus.PORT}" if settings.metrics.on else None,
        dashboards=f"{host(grafana.NAME)}:{grafana.PORT}" if settings.metrics.grafana else None,
    )


def _urls(settings: Settings) -> Outputs:
    proxy, auth = settings.proxy, settings.auth
    urls: Outputs = {}
    if settings.profiles.orion:
        urls |= {"public_url": proxy.url(proxy.tasks), "public_api_url": f"{proxy.url(proxy.api)}/api"}
    if settings.serves_storage:
        urls["public_storage_url"] = proxy.url(proxy.storage)
        urls["public_storage_console_url"] = proxy.url(proxy.storage_console)
    if settings.metrics.on:
        urls["public_metrics_url"] = proxy.url(proxy.metrics)
    if settings.metrics.grafana:
        urls["public_dashboards_url"] = proxy.url(proxy.dashboards)
    if auth.mode is AuthMode.MANAGED:
        urls["portal_url"] = f"{proxy.url(auth.portal)}/"
    elif auth.external:
        urls["portal_url"] = auth.external.portal
    return urls
