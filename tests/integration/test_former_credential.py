"""The Prefect server lets in who has the former credential of its API, wherever clients send one."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from prefect.events import Event, Resource
from prefect.events.clients import PrefectEventsClient, PrefectEventSubscriber
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from tests.integration.prefect_server import AUTH, FORMER, RunningPrefect

STRANGER = "admin:another-password"
SECONDS = 20


async def emitted(url: str) -> Event:
    """An event that went the way of a flow run's, and back."""
    event = Event(event="tests.rotation", resource=Resource({"prefect.resource.id": "tests.rotation"}))
    async with (
        asyncio.timeout(SECONDS),
        PrefectEventSubscriber(url, reconnection_attempts=0) as events,
        PrefectEventsClient(url, reconnection_attempts=0) as client,
    ):
        await client.emit(event)
        async for each in events:
            if each.id == event.id:
                return each
    raise AssertionError("the stream of events has ended")


@pytest.mark.parametrize("credential", [AUTH, FORMER])
def test_both_credentials_open_requests_and_websockets(prefect_server: RunningPrefect, credential: str) -> None:
    url = prefect_server.connection["url"]
    user, _, password = credential.partition(":")
    answer = httpx.post(f"{url}/flow_runs/count", json={}, auth=(user, password), trust_env=False)
    assert answer.status_code == httpx.codes.OK
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: credential}):
        assert asyncio.run(emitted(url)).event == "tests.rotation"


@pytest.mark.parametrize("credential", [STRANGER, f"{FORMER}2", "admin:"])
def test_no_other_does(prefect_server: RunningPrefect, credential: str) -> None:
    url = prefect_server.connection["url"]
    user, _, password = credential.partition(":")
    answer = httpx.post(f"{url}/flow_runs/count", json={}, auth=(user, password), trust_env=False)
    assert answer.status_code == httpx.codes.UNAUTHORIZED
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: AUTH}):
        asyncio.run(emitted(url))  # A client that is new to the server would be refused before, by a request.
    with (
        temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: credential}),
        pytest.raises(Exception, match="Unable to authenticate to the event stream"),
    ):
        asyncio.run(emitted(url))
