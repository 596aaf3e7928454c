"""Alerts: what Prefect's automations tell of, what a monitor sees by itself, and the monitor that delivers both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pulumi
import pulumi_docker as docker

from components import prefect_server
from components.backup import WORK, Backup
from components.front_door import FrontDoor
from components.images import Images
from components.naming import qualified
from components.networks import Networks
from components.prefect_server import PrefectServer
from components.service import SecretFile, ServiceArgs, as_nobody, container, http_health
from monitor.limits import Limits
from providers.generated_secret import GeneratedSecret, GeneratedSecretArgs
from providers.prefect.automation import Automation, AutomationArgs
from settings import AlertSettings, ProxyMode, Settings

NAME: Final = "monitor"
PORT: Final = 9095
PROGRAM: Final = Path("monitor")
CONFIGURATION: Final = "/etc/monitor.json"
PAUSE_SECONDS: Final = 30
"""Of what comes within it after a message, there is one more message."""
TARGET: Final = "/backups"
OBJECTS: Final = "/objects"

BLOCK_TYPE: Final = "custom-webhook"
BLOCK: Final = "alerts"
SAME_POOL: Final = "related:work-pool:prefect.resource.id"


@dataclass(frozen=True)
class AlertsArgs:
    """Who is told, and what of."""

    settings: Settings
    images: Images
    networks: Networks
    server: PrefectServer
    backup: Backup | None
    front_door: FrontDoor | None


@dataclass(frozen=True)
class Notice:
    """Something that Prefect tells of: its trigger, and its text as Prefect's templates have it.

    https://docs.prefect.io/v3/how-to-guides/automations/access-parameters-in-templates
    """

    name: str
    trigger: Mapping[str, object]
    subject: str
    body: str


def notices(patience: int) -> Sequence[Notice]:
    """Return what Prefect tells of, where it must last for `patience` seconds."""
    return (
        Notice(
            "failed-run",
            {
                "type": "event",
                "posture": "Reactive",
                "match": {"prefect.resource.id": "prefect.flow-run.*", "prefect.state-type": ["FAILED", "CRASHED"]},
                # Those of a worker: a run on a desk has somebody who looks at it, and a flow's own part has the flow.
                "match_related": {"prefect.resource.role": "work-pool"},
                "for_each": ["prefect.resource.id"],
                "expect": ["prefect.flow-run.*"],
            },
            "{{ flow.name }} is {{ flow_run.state.name }}",
            "Run {{ flow_run.name }} of {{ flow.name }}: {{ flow_run|ui_url }}\n"
            "First: read its logs there. A Crashed one has lost its process, mostly for want of memory: "
            "`scripts/status` names it. Retry starts it again.",
        ),
        Notice(
            "late-run",
            outlasting(
                patience,
                "prefect.flow-run",
                "Late",
                ("Pending", "Running", "Cancelled"),
                "related:deployment:prefect.resource.id",
            ),
            "{{ flow.name }}/{{ deployment.name }} is late",
            "Run {{ flow_run.name }} of {{ flow.name }} should have begun: {{ flow_run|ui_url }}\n"
            "First: `scripts/status` tells whether its worker runs; a pool, queue or deployment may be paused or full.",
        ),
        Notice(
            "no-worker",
            # With itself among what is expected, the next queue of the pool waits anew: one alert for all of them.
            outlasting(patience, "prefect.work-queue", "not-ready", ("ready", "paused", "not-ready"), SAME_POOL),
            "no worker for {{ work_pool.name }}",
            "Nobody takes runs from queue {{ work_queue.name }} of {{ work_pool.name }}: {{ work_pool|ui_url }}\n"
            "First: `scripts/status`, then `scripts/logs` of the worker that it names; one that runs must have the "
            "queue among its `queues`.",
        ),
    )


def outlasting(patience: int, resource: str, after: str, expect: Sequence[str], each: str) -> dict[str, object]:
    """Return a trigger that fires where none of `expect` follows `after` within `patience` seconds."""
    return {
        "type": "event",
        "posture": "Proactive",
        "match": {"prefect.resource.id": f"{resource}.*"},
        "for_each": [each],
        "after": [f"{resource}.{after}"],
        "expect": [f"{resource}.{event}" for event in expect],
        "within": patience,
    }


def notification(url: str, token: pulumi.Input[str]) -> dict[str, pulumi.Input[object]]:
    """Return the data of a block that hands Prefect's notifications to the monitor."""
    return {
        "name": BLOCK,
        "method": "POST",
        "url": url,
        "headers": {"Authorization": "Bearer {{token}}"},
        "json_data": {"subject": "{{subject}}", "body": "{{body}}"},
        # What is below `secrets` is shown to nobody in the UI.
        "secrets": {"token": token},
    }


class Alerts(pulumi.ComponentResource):
    """A monitor, a block that leads to it, and an automation for each kind of notice; see docs/adr/0024."""

    container: docker.Container

    def __init__(self, name: str, args: AlertsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Alerts", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.settings.alerts
        token = GeneratedSecret(f"{NAME}-token", GeneratedSecretArgs(), child).value
        self.container = self._monitor(args, token, child)
        in_prefect = pulumi.ResourceOptions.merge(args.server.inside, child)
        data = notification(f"http://{args.networks.host(NAME)}:{PORT}/", token)
        block = args.server.block(BLOCK, BLOCK_TYPE, data, child)
        stack = pulumi.get_stack()
        for notice in notices(settings.patience_seconds):
            Automation(
                f"alert-{notice.name}",
                AutomationArgs(
                    args.server.connection,
                    automation=f"alert of {notice.name.replace('-', ' ')}",
                    trigger=notice.trigger,
                    actions=[
                        {
                            "type": "send-notification",
                            "block_document_id": block.block_id,
                            "subject": f"[{stack}] {notice.subject}",
                            "body": notice.body,
                        }
                    ],
                ),
                in_prefect,
            )
        self.register_outputs({})

    @staticmethod
    def _monitor(args: AlertsArgs, token: pulumi.Output[str], child: pulumi.ResourceOptions) -> docker.Container:
        settings, disks = args.settings, {"/": "containers and volumes"}
        read_only: dict[str, docker.Volume | str] = {}
        if args.backup:
            read_only[WORK], disks[WORK] = args.backup.work, "volumes"
        for path, directory in (
            (TARGET, settings.backup.directory if args.backup else None),
            (OBJECTS, settings.minio.data_directory if settings.serves_storage else None),
        ):
            if directory:
                read_only[path] = disks[path] = directory.as_posix()
        secrets = SecretFile(NAME, pulumi.Output.json_dumps({"token": token, **_secrets(settings.alerts)}))
        networks = [args.networks.prefect, *([args.networks.caddy] if args.front_door else [])]
        monitor = ServiceArgs(
            image=args.images.prefect.image_id,
            networks=networks,
            alias=NAME,
            memory_mb=settings.alerts.memory_mb,
            memory_setting="alerts.memory_mb",
            read_only=read_only,
            files={CONFIGURATION: _configuration(args, disks)},
            health=http_health(PORT, "/health"),
        )
        # As nobody it can see how full a disk is, and read nothing that is on it.
        return container(NAME, as_nobody(monitor, PROGRAM, CONFIGURATION, secrets), child)


def _configuration(args: AlertsArgs, disks: Mapping[str, str]) -> str:
    alerts, proxy = args.settings.alerts, args.settings.proxy
    managed = proxy.mode is ProxyMode.MANAGED
    mail = alerts.email
    told: dict[str, object] = {
        "stack": pulumi.get_stack(),
        "port": PORT,
        "prefect": f"http://{args.networks.host('prefect-server')}:{prefect_server.PORT}/api",
        # Another's Caddy is asked as everybody asks it.
        "doors": [
            {"host": host, "address": qualified("caddy") if managed else host, "port": proxy.https_port}
            for host in (args.front_door.hosts if args.front_door else ())
        ],
        "disks": disks,
        "backup": WORK if args.backup else None,
        "limits": asdict(Limits(alerts.disk_free_percent, alerts.certificate_days, alerts.backup_hours)),
        "patience_seconds": alerts.patience_seconds,
        "pause_seconds": PAUSE_SECONDS,
        "mail": {"to": mail.to, **mail.smtp.model_dump(exclude={"password"})} if mail else None,
    }
    return json.dumps(told, indent=2) + "\n"


def _secrets(alerts: AlertSettings) -> dict[str, str]:
    password = alerts.email.smtp.password if alerts.email else None
    given = {"webhook": alerts.webhook, "smtp_password": password}
    return {name: secret.get_secret_value() for name, secret in given.items() if secret}
