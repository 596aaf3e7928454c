"""How images are named, and what goes into their builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
import pytest

from components import image
from settings import AuthEndpoint, ImageSettings
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


def front_door(source: str) -> dict[str, Any]:
    user = {"email": "ada@example.com", "password_hash": "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"}
    return {
        "images": {"source": source},
        "proxy": {"mode": "managed", "domain": "example.com"},
        "auth": {"mode": "managed", "users": {"ada": user}},
    }


def test_the_front_doors_servers_are_built_on_debian_with_their_programs() -> None:
    built = {r.name: r for r in record(front_door("build"), secret=("auth",)) if r.kind == "RemoteImage"}
    for name in ("caddy", "authelia"):
        assert built[name].inputs["build"]["buildArgs"]["BASE"] == built["base"].inputs["name"]
        assert sorted(path.name for path in context(name).iterdir()) == ["Dockerfile", name]


def test_the_front_doors_servers_are_pulled_by_digest() -> None:
    pulled = {r.name: r for r in record(front_door("registry"), secret=("auth",)) if r.kind == "RemoteImage"}
    for name in ("caddy", "authelia"):
        assert "build" not in pulled[name].inputs
        assert "@sha256:" in pulled[name].inputs["name"]


@pytest.mark.parametrize(
    ("settings", "endpoint"),
    [
        ({}, AuthEndpoint.FORWARD_AUTH),
        ({"source": "build"}, AuthEndpoint.VERIFY),
        ({"authelia": "authelia/authelia:4.37.5"}, AuthEndpoint.VERIFY),
        ({"authelia": "ghcr.io/authelia/authelia:v4.38@sha256:0"}, AuthEndpoint.FORWARD_AUTH),
        ({"authelia": "registry.example:5000/authelia:4.40.1-rc1"}, AuthEndpoint.FORWARD_AUTH),
    ],
)
def test_how_authelia_is_asked_goes_by_its_version(settings: dict[str, Any], endpoint: AuthEndpoint) -> None:
    assert ImageSettings.model_validate(settings).authelia_endpoint is endpoint


@pytest.mark.parametrize(
    "reference", ["authelia/authelia", "authelia/authelia:latest", "registry.example:5000/authelia:4"]
)
def test_an_authelia_of_no_told_version_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match="does not say a version, and Authelia's configuration differs"):
        ImageSettings.model_validate({"authelia": reference})
