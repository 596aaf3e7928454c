"""The recorder itself: one run has nothing to do with another."""

from __future__ import annotations

import asyncio

import pulumi
import pytest
from pulumi.runtime.settings import SETTINGS

from tests.unit.recorder import record


@pytest.mark.timeout(20)
def test_a_run_waits_for_nobody_elses_outputs() -> None:
    async def left_undone() -> None:
        SETTINGS.outputs.add(asyncio.get_running_loop().create_future())

    asyncio.run(left_undone())
    [future] = SETTINGS.outputs
    try:
        assert [each.name for each in record(program=lambda: pulumi.export("answer", pulumi.Output.from_input(42)))]
    finally:
        SETTINGS.outputs.discard(future)
