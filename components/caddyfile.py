"""The routes as a Caddyfile (https://caddyserver.com/docs/caddyfile): text from settings, and nothing else.

The managed Caddy runs it with the global options in front; one that is there already imports it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from settings import AuthEndpoint, Certificates, ProxyMode, ProxySettings

CERTIFICATES: Final = "/certificates"
"""Where the managed Caddy sees `proxy.certificate_directory`."""
ACME_ROOT: Final = "/etc/caddy/ca-bundle.crt"
"""Where the managed Caddy sees the authorities of `images.ca_bundle`."""
IDENTITY: Final = "Remote-User Remote-Groups Remote-Name Remote-Email"

PAGE: Final = ("X-Frame-Options SAMEORIGIN", "Referrer-Policy same-origin")
"""Headers of pages that people click in: no other site may frame them."""
PREFECT_PAGE: Final = (*PAGE, "Content-Security-Policy \"frame-ancestors 'self'; connect-src 'self'\"")
"""Prefect's second UI would ask a service elsewhere for its configuration."""


@dataclass(frozen=True)
class LogIn:
    """An Authelia that is asked about every request."""

    address: str
    """`host:port` as Caddy reaches it."""
    endpoint: AuthEndpoint
    portal: str
    """URL, with the slash at the end."""
    served: bool
    """Whether the portal is a route of this Caddyfile, too."""

    @property
    def uri(self) -> str:
        """What Caddy asks (https://www.authelia.com/integration/proxies/caddy)."""
        if self.endpoint is AuthEndpoint.VERIFY:
            return f"/api/verify?rd={self.portal}"
        return f"/api/authz/forward-auth?authelia_url={self.portal}"


@dataclass(frozen=True)
class Routes:
    """What is served, and where it is; addresses are `host:port` as Caddy reaches them."""

    proxy: ProxySettings
    log_in: LogIn | None
    prefect: str | None
    authorization: str
    """Value of the header that opens Prefect's API; a Caddy placeholder where it is in a file."""
    s3: str | None
    console: str | None
    metrics: str | None = None
    dashboards: str | None = None


def global_options(proxy: ProxySettings, *, own_authorities: bool) -> str:
    """Return the block of the managed Caddy's own options (https://caddyserver.com/docs/caddyfile/options).

    The HTTPS port is a part of each address instead: Caddy takes `https_port` for one that others see as 443.
    """
    acme = proxy.certificates is Certificates.ACME
    lines = [
        f"http_port {proxy.http_port}",
        "persist_config off",
        "skip_install_trust",
        *([f"email {proxy.acme_email}"] if acme and proxy.acme_email else []),
        *([f"acme_ca {proxy.acme_directory}"] if acme and proxy.acme_directory else []),
        *([f"acme_ca_root {ACME_ROOT}"] if acme and own_authorities else []),
        # HTTP/3 is UDP, and no UDP port is published.
        *_block("servers", ["protocols h1 h2"]),
    ]
    return "\n".join([*_block("", lines), ""])


def caddyfile(routes: Routes) -> str:
    """Return the sites."""
    return "\n".join(sites(routes).values())


def sites(routes: Routes) -> dict[str, str]:
    """Return each site by its address, such as `https://tasks.example.com`."""
    proxy, log_in = routes.proxy, routes.log_in
    served: dict[str, tuple[Sequence[str], list[str]]] = {}
    if routes.prefect:
        served[proxy.url(proxy.tasks)] = (PREFECT_PAGE, _guarded(log_in, _ui(routes, routes.prefect)))
        served[proxy.url(proxy.api)] = ((), _machines(routes.prefect))
    if routes.s3:
        # No log-in: S3 clients sign their requests. What they sign is the host, which Caddy passes on as it came.
        served[proxy.url(proxy.storage)] = ((), _block(f"reverse_proxy {routes.s3}", ["header_up -Cookie"]))
    if routes.console:
        # The console sees no TLS, and would let its cookie go out without.
        secure = ['header_down Set-Cookie "^(token=.*)$" "$1; Secure"']
        console = _block(f"reverse_proxy {routes.console}", secure)
        served[proxy.url(proxy.storage_console)] = (PAGE, _guarded(log_in, console))
    # Prometheus asks nobody who they are, and Grafana's own log-in is the second.
    for label, address in ((proxy.metrics, routes.metrics), (proxy.dashboards, routes.dashboards)):
        if address:
            served[proxy.url(label)] = (PAGE, _guarded(log_in, [f"reverse_proxy {address}"]))
    if log_in and log_in.served:
        # With these Authelia would take a password outside of its log-in, where failures are not counted.
        portal = ["request_header -Authorization", "request_header -Proxy-Authorization"]
        served[log_in.portal.rstrip("/")] = (PAGE, [*portal, f"reverse_proxy {log_in.address}"])
    return {address: _site(proxy, address, *parts) for address, parts in served.items()}


def _site(proxy: ProxySettings, address: str, headers: Sequence[str], route: list[str]) -> str:
    tls: list[str] = []
    hsts: list[str] = []
    if proxy.mode is ProxyMode.MANAGED:
        tls = {
            Certificates.ACME: [],
            Certificates.FILES: [f"tls {CERTIFICATES}/fullchain.pem {CERTIFICATES}/privkey.pem"],
            Certificates.INTERNAL: ["tls internal"],
        }[proxy.certificates]
        # Browsers that once saw it refuse a certificate of an authority that they don't know, with no way round.
        known = proxy.certificates is not Certificates.INTERNAL
        hsts = ["Strict-Transport-Security max-age=31536000"] if known else []
    always = ["X-Content-Type-Options nosniff", "-Server"]
    # `route` keeps the order as it is written: what a client forged goes before Authelia is asked.
    lines = [*tls, *_block("header", [*hsts, *always, *headers]), *_block("route", route)]
    return "\n".join([*_block(address, lines), ""])


def _guarded(log_in: LogIn | None, route: list[str]) -> list[str]:
    """What only people who are logged in see."""
    # A page of a host beside it is the same site to the browser, so the session's cookie comes along with what that
    # page sends. Browsers say where a request is from: https://www.w3.org/TR/fetch-metadata/
    sent_by_others = "header({'Sec-Fetch-Site': ['same-site', 'cross-site']})"
    changes = "(!method('GET', 'HEAD', 'OPTIONS') || header({'Sec-Fetch-Mode': 'websocket'}))"
    foreign = [f"@foreign `{sent_by_others} && {changes}`", "respond @foreign 403"]
    if log_in is None:
        return [*foreign, "encode zstd gzip", *route]
    forged = ["Remote-*", "X-Original-*", "Authorization", "Proxy-Authorization"]
    # Requests that Caddy makes itself, for `httpInclude`, come without TLS.
    asked = [f"uri {log_in.uri}", f"copy_headers {IDENTITY}", "header_up X-Forwarded-Proto https"]
    return [
        *foreign,
        *(f"request_header -{name}" for name in forged),
        *_block(f"forward_auth {log_in.address}", asked),
        "encode zstd gzip",
        *route,
    ]


def _ui(routes: Routes, prefect: str) -> list[str]:
    """Prefect's UI; who is logged in needs no password of Prefect's, too."""
    if routes.log_in is None:
        return [f"reverse_proxy {prefect}"]
    # The UI asks for that password where these settings say that the API wants one, whatever the proxy adds.
    settings = [
        "@raw query raw=1",
        *_block("handle @raw", [f"reverse_proxy {prefect}"]),
        *_block(
            "handle",
            [
                *_block("templates", ["mime application/json"]),
                "header Content-Type application/json",
                r"""respond `{{ httpInclude "/ui-settings?raw=1" | replace "\"auth\":\"BASIC\"" "\"auth\":null" }}`""",
            ],
        ),
    ]
    return [
        *_block("handle /ui-settings", settings),
        *_block(f"reverse_proxy {prefect}", [f'header_up Authorization "{routes.authorization}"']),
    ]


def _machines(prefect: str) -> list[str]:
    """Prefect's API and nothing else; it asks for its own credential."""
    return [
        "@api path /api /api/*",
        "encode zstd gzip",
        *_block(f"reverse_proxy @api {prefect}", ["header_up -Cookie"]),
        "respond 404",
    ]


def _block(head: str, lines: list[str]) -> list[str]:
    return [f"{head} {{".lstrip(), *(f"\t{line}" for line in lines), "}"]
