"""Grafana: draws what Prometheus was told, at first on one dashboard of the stack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pulumi

from components.image import Image
from components.networks import Network
from components.service import Port, SecretFile, ServiceArgs, container, data_volume, http_health, kept_secret
from settings import MetricsSettings

NAME: Final = "grafana"
PORT: Final = 3000
DATA: Final = "/data"
"""Where the image has nothing, so that it is root's, as who runs it."""
DASHBOARD: Final = Path("metrics") / "dashboard.json"
DASHBOARDS: Final = "/etc/grafana/dashboards"
PROVISIONING: Final = "/etc/grafana/provisioning"
SOURCE: Final = "prometheus"
"""Uid of the data source, which the dashboard names."""


@dataclass(frozen=True)
class GrafanaArgs:
    """What a Grafana needs."""

    settings: MetricsSettings
    image: Image
    networks: Sequence[Network]
    prometheus: str
    """Its URL, as Grafana reaches it."""
    public: str
    """Grafana's own URL, as people reach it."""


def provisioning(prometheus: str) -> dict[str, str]:
    """Return path to text of what Grafana finds when it starts, as JSON, which is YAML, too.

    https://grafana.com/docs/grafana/latest/administration/provisioning/
    """
    source = {
        "name": "Prometheus",
        "uid": SOURCE,
        "type": "prometheus",
        "access": "proxy",
        "url": prometheus,
        "isDefault": True,
    }
    dashboards = {"name": "stack", "type": "file", "options": {"path": DASHBOARDS}}
    return {
        f"{PROVISIONING}/datasources/stack.yaml": json.dumps({"apiVersion": 1, "datasources": [source]}, indent=2),
        f"{PROVISIONING}/dashboards/stack.yaml": json.dumps({"apiVersion": 1, "providers": [dashboards]}, indent=2),
        f"{DASHBOARDS}/{DASHBOARD.name}": DASHBOARD.read_text(),
    }


class Grafana(pulumi.ComponentResource):
    """A Grafana with what people make in it, and one user, `admin`."""

    password: pulumi.Output[str]

    def __init__(self, name: str, args: GrafanaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Grafana", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        # Read when the data is made, and kept as long.
        self.password = kept_secret(f"{name}-password", None, child)
        password_file = SecretFile(f"{name}-password", self.password)
        container(
            name,
            ServiceArgs(
                image=args.image.image_id,
                networks=args.networks,
                alias=name,
                memory_mb=args.settings.grafana_memory_mb,
                memory_setting="metrics.grafana_memory_mb",
                # https://grafana.com/docs/grafana/latest/setup-grafana/configure-grafana/
                env={
                    "GF_SECURITY_ADMIN_PASSWORD__FILE": password_file.path,
                    "GF_SERVER_ROOT_URL": args.public,
                    "GF_PATHS_DATA": DATA,
                    "GF_PATHS_PLUGINS": f"{DATA}/plugins",
                    "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": f"{DASHBOARDS}/{DASHBOARD.name}",
                    "GF_AUTH_ANONYMOUS_ENABLED": "false",
                    "GF_USERS_ALLOW_SIGN_UP": "false",
                    # It would ask servers in the internet, which many hosts can't reach.
                    "GF_ANALYTICS_REPORTING_ENABLED": "false",
                    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
                    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
                    "GF_NEWS_NEWS_FEED_ENABLED": "false",
                    "GF_PLUGINS_PREINSTALL_DISABLED": "true",
                },
                ports=[Port(args.settings.grafana_port, PORT)],
                volumes={DATA: data_volume(f"{name}-data", {"path": DATA}, child)},
                files=provisioning(args.prometheus),
                secret_files=[password_file],
                health=http_health(PORT, "/api/health"),
                # The first start makes its database.
                health_start="3m0s",
                # The image's own user could not read the secret.
                user="0",
            ),
            child,
        )
        self.register_outputs({})
