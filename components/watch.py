"""What Prefect itself watches: flow runs whose process has gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pulumi

from components.prefect_server import PrefectServer
from providers.prefect.automation import Automation, AutomationArgs
from settings import Settings

HEARTBEAT_SECONDS: Final = 30
"""The least that Prefect takes."""
DEAD_SECONDS: Final = 150
"""Without a heartbeat, on a worker of the stack: five are missed, and a restart of the server is not that long."""
DEAD_ELSEWHERE_SECONDS: Final = 540
"""The same where Prefect's default of 180 s holds: laptops, and runs that a flow calls within its own process."""

RUN: Final = "prefect.flow-run"
HEARTBEAT: Final = f"{RUN}.heartbeat"
ENDED_OR_WAITING: Final = ("Completed", "Failed", "TimedOut", "Cancelled", "Crashed", "Suspended", "AwaitingRetry")
"""States in which a flow run sends no heartbeat."""


@dataclass(frozen=True)
class WatchArgs:
    """What is watched."""

    settings: Settings
    server: PrefectServer


class Watch(pulumi.ComponentResource):
    """Automations in Prefect: a flow run without heartbeats is Crashed.

    The trigger is the one of https://docs.prefect.io/v3/advanced/detect-zombie-flows, and one more for what runs
    elsewhere; see docs/adr/0021.
    """

    def __init__(self, name: str, args: WatchArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Watch", name, None, opts)
        in_prefect = pulumi.ResourceOptions.merge(args.server.inside, pulumi.ResourceOptions(parent=self))
        # Whose workers send a heartbeat each HEARTBEAT_SECONDS.
        pools = [worker.pool for worker in args.settings.all_workers().values()]
        ours = {"prefect.resource.role": "work-pool", "prefect.resource.name": pools}
        for automation, related, seconds in (
            ("crash-dead-runs", ours, DEAD_SECONDS),
            ("crash-dead-runs-elsewhere", {}, DEAD_ELSEWHERE_SECONDS),
        ):
            message = f"No heartbeat for {seconds} s: its process or its host has gone."
            Automation(
                automation,
                AutomationArgs(
                    args.server.connection,
                    automation=automation,
                    description=f"A flow run without a heartbeat for {seconds} s is Crashed.",
                    trigger=unheard(related, seconds),
                    actions=[{"type": "change-flow-run-state", "state": "CRASHED", "message": message}],
                ),
                in_prefect,
            )
        self.register_outputs({})


def unheard(related: Mapping[str, object], seconds: int) -> dict[str, object]:
    """A trigger that fires once for a flow run whose heartbeats have ceased while it should run."""
    return {
        "type": "event",
        "posture": "Proactive",
        "match": {"prefect.resource.id": f"{RUN}.*"},
        "match_related": related,
        "for_each": ["prefect.resource.id"],
        "after": [HEARTBEAT],
        "expect": [HEARTBEAT, *(f"{RUN}.{state}" for state in ENDED_OR_WAITING)],
        "within": seconds,
    }
