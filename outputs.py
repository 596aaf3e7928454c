"""What a stack tells others: its outputs, for `pulumi stack output` and for programs that read them.

Names and types are kept: programs of others rely on them. docs/outputs.md is made from this.
"""

from collections.abc import Mapping
from typing import Annotated, TypedDict

import pulumi

Text = pulumi.Input[str]
IdsByName = pulumi.Input[Mapping[str, Text]]


class Outputs(TypedDict, total=False):
    """A stack's outputs; those of parts that are switched off are absent.

    URLs but the public ones are on the Docker host's loopback.
    """

    prefect_url: Annotated[Text, "Prefect's UI"]
    prefect_api_url: Annotated[Text, "Prefect's API, what `PREFECT_API_URL` is set to"]
    prefect_api_auth_string: Annotated[
        Text, "*secret*; what both ask for, and what `PREFECT_API_AUTH_STRING` is set to"
    ]
    minio_url: Annotated[Text, "MinIO's S3 API"]
    minio_console_url: Annotated[Text, "MinIO's console"]
    minio_root_user: Annotated[Text, "MinIO's administrator"]
    minio_root_password: Annotated[Text, "*secret*; the administrator's password"]
    bucket_access_key: Annotated[Text, "id of the key that flows reach their bucket with, and nothing else"]
    bucket_secret_key: Annotated[Text, "*secret*; its secret"]
    public_url: Annotated[Text, "Prefect's UI, for people, by the proxy"]
    public_api_url: Annotated[Text, "Prefect's API for machines, by the proxy; asks for `prefect_api_auth_string`"]
    public_storage_url: Annotated[Text, "the S3 API, by the proxy"]
    public_storage_console_url: Annotated[Text, "MinIO's console, by the proxy"]
    public_metrics_url: Annotated[Text, "Prometheus, by the proxy"]
    public_dashboards_url: Annotated[Text, "Grafana, by the proxy"]
    portal_url: Annotated[Text, "where people log in"]
    caddyfile: Annotated[Text, "*secret*; the routes for a Caddy that is there already (`proxy.mode: external`)"]
    dask_dashboard_url: Annotated[Text, "dashboard of the Dask scheduler"]
    prometheus_url: Annotated[Text, "Prometheus"]
    grafana_url: Annotated[Text, "Grafana"]
    grafana_password: Annotated[Text, "*secret*; of Grafana's user `admin`"]
    backup_password: Annotated[Text, "*secret*; what backups are encrypted with: keep a copy outside of the stack"]
    cli_command: Annotated[Text, "command that opens a shell in the CLI box"]
    deployments: Annotated[IdsByName, "`<flow>/<deployment>` to the deployment's id in Prefect"]


def export(outputs: Outputs) -> None:
    """Make them the outputs of this stack."""
    for name, value in outputs.items():
        pulumi.export(name, value)
