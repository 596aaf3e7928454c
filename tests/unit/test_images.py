"""How images are named, and what goes into their builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
import pytest

from components import image
from tests.unit.recorder import Recorded, record

pytestmark = pytest.mark.usefixtures("_project")
BUILD: dict[str, Any] = {"source": "build"}


def images(settings: dict[str, Any]) -> dict[str, Recorded]:
    return {r.name: r for r in record(settings) if r.kind == "RemoteImage"}


def names(settings: dict[str, Any]) -> dict[str, str]:
    return {name: r.inputs["name"] for name, r in images(settings).items()}


def context(name: str) -> Path:
    return Path(image.STAGING) / "test" / name


def test_all_images_are_built_where_there_is_no_registry() -> None:
    built = images({"images": BUILD})
    assert set(built) == {"base", "prefect", "worker", "postgres", "minio"}
    for name, resource in built.items():
        assert resource.inputs["name"].startswith(f"prefect-environment-test/{name}:")
        assert resource.inputs["keepLocally"] is True
        assert resource.inputs["triggers"]["hash"] in resource.inputs["name"]
        assert resource.inputs["build"]["label"]["prefect-environment.stack"] == "test"


def test_images_stand_on_each_other() -> None:
    built = images({"images": BUILD})
    bases = {name: r.inputs["build"].get("buildArgs", {}).get("BASE") for name, r in built.items()}
    tags = {name: r.inputs["name"] for name, r in built.items()}
    assert bases == {
        "base": None,
        "prefect": tags["base"],
        "postgres": tags["base"],
        "minio": tags["base"],
        "worker": tags["prefect"],
    }


def test_names_do_not_change_from_run_to_run() -> None:
    assert names({"images": BUILD}) == names({"images": BUILD})


def test_packages_of_one_worker_change_no_other_image() -> None:
    before = names({"images": BUILD})
    workers = {"dask": {"pool": "dask-pool"}, "frames": {"pool": "frames", "requirements": ["pandas==2.3.3"]}}
    after = names({"images": BUILD, "workers": workers})
    assert set(after) - set(before) == {"worker-frames"}
    assert {name: after[name] for name in before} == before
    assert (context("worker-frames") / "requirements.txt").read_text() == "pandas==2.3.3\n"


def test_a_ca_bundle_reaches_the_build_and_renames_what_stands_on_it(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    before = names({"images": BUILD})
    after = names({"images": {**BUILD, "ca_bundle": str(bundle)}})
    assert {name for name in before if before[name] != after[name]} == {"prefect", "worker"}
    assert (context("prefect") / "ca-bundle.crt").read_text() == bundle.read_text()


def test_index_and_proxy_are_arguments_of_the_builds_that_need_them() -> None:
    index, proxy = "https://index.example/simple", "http://proxy.example:3128"
    built = images({"images": {**BUILD, "index_url": index, "proxy": proxy}})
    args = {name: r.inputs["build"].get("buildArgs", {}) for name, r in built.items()}
    assert {name for name, given in args.items() if given.get("INDEX_URL") == index} == {"prefect", "worker"}
    assert {name for name, given in args.items() if given.get("http_proxy") == proxy} == {
        "prefect",
        "worker",
        "postgres",
    }


def test_a_context_is_staged_anew() -> None:
    names({"images": BUILD})
    (context("minio") / "left-over").touch()
    names({"images": BUILD})
    assert sorted(path.name for path in context("minio").iterdir()) == ["Dockerfile", "docker-entrypoint.sh", "minio"]


def test_a_missing_artefact_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "built", lambda _: False)
    with pytest.raises(pulumi.RunError, match=r"Make it with `scripts/toolchain rootfs`"):
        record({"images": BUILD})


def test_a_stack_of_minio_alone_builds_nothing_else() -> None:
    alone = {"orion": False, "agent": False, "cli": False, "dask": False}
    assert set(images({"images": BUILD, "profiles": alone})) == {"base", "minio"}
