"""Versions that would differ between server, workers and flows: refused before anything is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from settings import SettingsError, parse
from settings.versions import (
    PROGRAM_LOCK,
    SERVER_LOCK,
    WORKER_LOCK,
    base_problems,
    lock_problems,
    locked,
    requirement_problems,
    version_in,
)
from tests.unit.recorder import ROOT

LOCK = {"prefect": "3.8.8", "dask": "2026.8.0", "prefect-dask": "0.3.7"}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def problems(values: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(values, "dev")
    return str(caught.value).splitlines()[1:]


def test_server_and_workers_run_the_same_packages() -> None:
    server, worker = locked(SERVER_LOCK), locked(WORKER_LOCK)
    assert {name: worker.get(name) for name in server} == server
    assert locked(PROGRAM_LOCK)["prefect"] == server["prefect"]


def test_a_lock_of_another_prefect_names_file_consequence_and_fix() -> None:
    prefect = {SERVER_LOCK: "3.8.8", WORKER_LOCK: "3.8.8", PROGRAM_LOCK: "3.8.7"}
    [problem] = lock_problems(prefect)
    assert problem.startswith("requirements.txt: it has Prefect 3.8.7, and images/prefect/requirements.txt, which the")
    assert "would be refused or misread by the other. Write the same `prefect==` into both .in files" in problem
    assert not list(lock_problems(dict.fromkeys(prefect, "3.8.8")))


@pytest.mark.parametrize(
    "reference",
    [
        "prefecthq/prefect:3.8.8-python3.11",
        "prefecthq/prefect:3.8-python3.11@sha256:0",
        "registry.example:5000/prefecthq/prefect:3-latest",
        "registry.example:5000/prefecthq/prefect",
        "prefecthq/prefect:latest",
        "company/python-with-tools:2026.1",
    ],
)
def test_a_base_image_that_the_lock_fits(reference: str) -> None:
    assert not list(base_problems(reference, "3.8.8"))


@pytest.mark.parametrize("tag", ["3.9.1-python3.11", "3.7-python3.12", "2-latest"])
def test_a_base_image_of_another_prefect(tag: str) -> None:
    images = {"prefect": f"registry.example:5000/prefecthq/prefect:{tag}"}
    [problem] = problems({"images": images})
    assert (
        f"images.prefect: {images['prefect']} is another version than the {locked(SERVER_LOCK)['prefect']}" in problem
    )
    assert "Name prefecthq/prefect:" in problem
    # Built from Debian, it is not used.
    parse({"images": {**images, "source": "build"}}, "dev")


def test_what_a_reference_tells() -> None:
    assert version_in("registry.example:5000/postgres:17.10-bookworm@sha256:0") == (17, 10)
    assert version_in("registry.example:5000/postgres") == ()


@pytest.mark.parametrize(
    "line",
    [
        "pandas==2.3.3",
        "prefect",
        "Prefect>=3.8,<4",
        "prefect[aws]",
        "prefect_dask==0.3.7",
        "dask~=2026.8",
        "--no-binary pandas",
        "git+https://example.com/x.git",
        "prefect==2.0; python_version < '3'",
    ],
)
def test_requirements_that_fit_or_that_the_build_judges(line: str) -> None:
    assert not list(requirement_problems("workers.dask.requirements", [line], LOCK))


@pytest.mark.parametrize("line", ["prefect==3.7.0", "Prefect_Dask<0.3", "dask>=2027", "prefect[aws]!=3.8.8"])
def test_requirements_of_another_version(line: str) -> None:
    [problem] = requirement_problems("workers.dask.requirements", [line], LOCK)
    assert problem.startswith(f"workers.dask.requirements: {line} does not fit ")
    assert "the image could not be built. Leave the version out" in problem


def test_requirements_of_workers_and_of_flow_projects_are_checked(tmp_path: Path) -> None:
    (tmp_path / "flow.py").touch()
    (tmp_path / "requirements.txt").write_text("# ours\nprefect==3.0.0  # old\n")
    found = problems(
        {
            "workers": {"dask": {"pool": "dask-pool", "requirements": ["distributed==2020.1"]}},
            "flows": {"own": {"path": str(tmp_path), "deployments": {"d": {"entrypoint": "flow.py:main"}}}},
        }
    )
    assert any("workers.dask.requirements: distributed==2020.1 does not fit" in each for each in found)
    assert any(f"flows.own: {tmp_path}/requirements.txt: prefect==3.0.0 does not fit" in each for each in found)
