"""The version that has migrated a database: it may rise, and not fall."""

from __future__ import annotations

import pytest

from providers.version_contract import VersionContractProvider
from settings.versions import SERVER_LOCK, locked
from tests.unit.recorder import record

DATA = "the database of the stack dev"


def terms(version: str) -> dict[str, object]:
    return {"data": DATA, "terms": {"Prefect": version}}


def failures(old: dict[str, object], new: dict[str, object]) -> list[str]:
    return [failure.reason for failure in VersionContractProvider().check(old, new).failures]


@pytest.mark.parametrize("version", ["3.8.8", "3.8.9", "3.10.0", "4.0"])
def test_the_same_or_a_newer_one_is_fine(version: str) -> None:
    assert failures({}, terms(version)) == []
    assert failures(terms("3.8.8"), terms(version)) == []


@pytest.mark.parametrize("version", ["3.8.7", "3.7.10", "2.20.25"])
def test_an_older_one_is_refused_with_data_change_and_ways_out(version: str) -> None:
    [reason] = failures(terms("3.8.8"), terms(version))
    assert reason.startswith(f"{DATA} is in the newer version's form")
    assert f"Prefect from 3.8.8 to {version}. Nothing was changed. Check out" in reason
    assert "scripts/restore, as docs/upgrades.md tells" in reason


@pytest.mark.usefixtures("_project")
def test_a_server_agrees_on_its_version_and_nothing_waits_for_that() -> None:
    resources = record()
    [agreed] = [r for r in resources if r.kind == "VersionContract"]
    assert agreed.inputs["terms"] == {"Prefect": locked(SERVER_LOCK)["prefect"]}
    assert agreed.protect
    assert not [r.name for r in resources if agreed.urn in r.depends_on]
    off = {"orion": False, "agent": False, "cli": False}
    assert not [r for r in record({"profiles": off}) if r.kind == "VersionContract"]
