"""The recorder itself: one run has nothing to do with another."""

from __future__ import annotations

import asyncio
from typing import cast

import pulumi
import pytest
from pulumi.runtime.settings import SETTINGS

from tests.unit.recorder import record


@pytest.mark.timeout(20)
def test_a_run_waits_for_nobody_elses_outputs() -> None:
    loop = asyncio.new_event_loop()
    never = cast("asyncio.Task[object]", loop.create_future())
    SETTINGS.outputs.add(never)
    try:
        assert [each.name for each in record(program=lambda: pulumi.export("answer", pulumi.Output.from_input(42)))]
    finally:
        SETTINGS.outputs.discard(never)
        loop.close()
