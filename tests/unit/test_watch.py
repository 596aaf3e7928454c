"""What Prefect is told to watch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from components.watch import DEAD_SECONDS, HEARTBEAT_SECONDS
from tests.unit.recorder import record, revealed

pytestmark = pytest.mark.usefixtures("_project")
BUILD: Mapping[str, Any] = {"images": {"source": "build"}}


def automations(settings: Mapping[str, Any], **words: Any) -> dict[str, Any]:
    return {r.name: revealed(r.inputs) for r in record(settings, **words) if r.kind == "Automation"}


def test_dead_runs_are_crashed_in_every_stack() -> None:
    workers = {"dask": {"pool": "dask-pool"}, "other": {"pool": "other-pool"}}
    declared = automations({**BUILD, "workers": workers})
    assert sorted(declared) == ["crash-dead-runs", "crash-dead-runs-elsewhere"]
    here, elsewhere = declared["crash-dead-runs"], declared["crash-dead-runs-elsewhere"]
    assert here["automation"] == "crash-dead-runs"
    assert here["trigger"]["match_related"] == {
        "prefect.resource.role": "work-pool",
        "prefect.resource.name": ["dask-pool", "other-pool"],
    }
    assert elsewhere["trigger"]["match_related"] == {}
    for each in declared.values():
        assert [(action["type"], action["state"]) for action in each["actions"]] == [
            ("change-flow-run-state", "CRASHED")
        ]


def test_a_dead_run_is_noticed_within_three_minutes_and_a_restart_of_the_server_is_not_one() -> None:
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY

    # The server looks every five seconds.
    assert DEAD_SECONDS + 5 < 180
    assert DEAD_SECONDS - HEARTBEAT_SECONDS >= 120
    elsewhere = automations(BUILD)["crash-dead-runs-elsewhere"]["trigger"]["within"]
    assert elsewhere >= 3 * PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value()


def test_prefect_takes_the_triggers() -> None:
    from prefect.events.schemas.automations import AutomationCore

    for each in automations(BUILD).values():
        AutomationCore.model_validate({"name": "n", "trigger": each["trigger"], "actions": each["actions"]})


def test_without_a_server_nothing_is_declared() -> None:
    profiles = {"orion": False, "agent": False, "cli": False}
    assert not automations({**BUILD, "profiles": profiles})
