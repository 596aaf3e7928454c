"""Listens to Prefect's events and logs over websockets, and sends an event that comes back.

usage: python listen.py        (PREFECT_API_URL and PREFECT_API_AUTH_STRING say where and as whom)
"""

from __future__ import annotations

import asyncio
import sys
import uuid

from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.events import Event
from prefect.events.clients import get_events_client, get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.logging.clients import get_logs_subscriber

SECONDS = 30


async def events() -> str:
    """The name of an event that was sent and came back."""
    name = f"front-door.{uuid.uuid4()}"
    chosen = EventFilter(event=EventNameFilter(name=[name]))
    async with (
        get_events_subscriber(filter=chosen, reconnection_attempts=0) as subscriber,
        get_events_client(reconnection_attempts=0) as client,
    ):
        await client.emit(Event(event=name, resource={"prefect.resource.id": "front-door"}))
        async for event in subscriber:
            return event.event
    raise AssertionError("the subscription ended")


async def logs() -> str:
    """Who subscribed to logs was let in; the server hands none out unless it is told to (it is not)."""
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[uuid.uuid4()]))
    async with get_logs_subscriber(filter=chosen, reconnection_attempts=0):
        return "listening"


async def both() -> None:
    """One after the other, each for a bounded time."""
    for listen in (events, logs):
        came = await asyncio.wait_for(listen(), SECONDS)
        sys.stdout.write(f"{listen.__name__}: {came}\n")


asyncio.run(both())
