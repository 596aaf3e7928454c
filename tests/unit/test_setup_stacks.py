"""Which stack is taken, which settings file Pulumi gets, what scripts/pulumi adds."""

import json
import sys
from pathlib import Path

import pytest

from scripts.lib import network, stacks
from scripts.lib.ui import Failure

SALT = "encryptionsalt: v1:abc=:v1:def:ghi=="


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "clone"
    root.mkdir()
    monkeypatch.setattr(stacks, "ROOT", root)
    monkeypatch.setattr(stacks, "LOCAL", root / ".local")
    for name in ("dev", "dev-mirror"):
        (root / f"Pulumi.{name}.yaml").write_text("config:\n  prefect-environment:port_offset: 1\n")
    return root


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    directory = tmp_path / "backend" / ".pulumi" / "stacks" / stacks.PROJECT
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def env(backend: Path) -> dict[str, str]:
    return {"PULUMI_BACKEND_URL": backend.parents[2].as_uri()}


def registry(monkeypatch: pytest.MonkeyPatch, *, answers: bool) -> None:
    monkeypatch.setattr(network, "image_registry", lambda: answers)


@pytest.mark.parametrize(("answers", "name"), [(True, "dev"), (False, "dev-mirror")])
@pytest.mark.usefixtures("clone")
def test_the_first_choice_follows_the_registry(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], answers: bool, name: str
) -> None:
    registry(monkeypatch, answers=answers)
    assert stacks.choose(None, env).name == name


@pytest.mark.usefixtures("clone")
def test_an_existing_stack_wins_over_the_registry(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], backend: Path
) -> None:
    registry(monkeypatch, answers=True)
    for file in ("dev-mirror.json", "dev-mirror.json.attrs", "dev-mirror.json.bak", "gone.json.bak"):
        (backend / file).touch()
    assert stacks.choose(None, env) == stacks.Choice("dev-mirror", "it exists")


@pytest.mark.usefixtures("clone")
def test_two_existing_stacks_are_listed(env: dict[str, str], backend: Path) -> None:
    for name in ("dev", "team"):
        (backend / f"{name}.json").touch()
    with pytest.raises(Failure, match=r"dev, team.*--stack NAME"):
        stacks.choose(None, env)
    assert stacks.choose("dev", env).name == "dev"


@pytest.mark.usefixtures("clone")
def test_a_stack_without_settings_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(Failure, match=r"Pulumi\.team\.yaml is missing"):
        stacks.choose("team", env)


def test_settings_without_a_salt_are_copied_and_the_copy_keeps_its_salt(clone: Path) -> None:
    tracked = clone / "Pulumi.dev.yaml"
    before = tracked.read_text()
    copy = stacks.config_file("dev")
    assert copy == clone / ".local" / "Pulumi.dev.yaml"
    assert "encryptionsalt" not in copy.read_text()
    copy.write_text(copy.read_text() + SALT + "\n")  # as Pulumi does
    tracked.write_text(before.replace("1", "2"))
    text = stacks.config_file("dev").read_text()
    assert text.count(SALT) == 1
    assert "port_offset: 2" in text
    assert "change that file, not this one" in text.splitlines()[0]
    assert tracked.read_text() == before.replace("1", "2")


def test_settings_with_a_salt_are_used_as_they_are(clone: Path) -> None:
    tracked = clone / "Pulumi.dev.yaml"
    tracked.write_text(f"{tracked.read_text()}{SALT}\n")
    assert stacks.config_file("dev") == tracked
    assert not (clone / ".local").exists()


def test_pulumi_gets_the_one_stack_and_its_settings_file(clone: Path, env: dict[str, str], backend: Path) -> None:
    (backend / "dev.json").touch()
    copy = str(clone / ".local" / "Pulumi.dev.yaml")
    complete = ["--stack", "dev", "--config-file", copy]
    assert stacks.arguments(["up", "--yes"], env) == ["up", "--yes", *complete]
    assert stacks.arguments(["config", "set", "a", "b"], env) == ["config", "set", "a", "b", "--stack", "dev"]
    assert stacks.arguments(["stack", "ls"], env) == ["stack", "ls"]
    assert stacks.arguments(["up", "--help"], env) == ["up", "--help"]


@pytest.mark.parametrize("option", [["--stack", "dev"], ["--stack=dev"], ["-s", "dev"]])
def test_a_named_stack_is_left_alone(clone: Path, env: dict[str, str], backend: Path, option: list[str]) -> None:
    for name in ("dev", "other"):
        (backend / f"{name}.json").touch()
    config = ["--config-file", str(clone / ".local" / "Pulumi.dev.yaml")]
    assert stacks.arguments(["preview", *option], env) == ["preview", *option, *config]
    own = ["preview", *option, "--config-file", "mine.yaml"]
    assert stacks.arguments(own, env) == own


@pytest.mark.parametrize(
    ("config", "artefacts"),
    [
        ({"images": {"source": "build"}}, ("rootfs", "minio")),
        (
            {"images": {"source": "build"}, "proxy": {"mode": "managed"}, "auth": {"mode": "managed"}},
            ("rootfs", "minio", "caddy", "authelia"),
        ),
        ({"images": {"source": "build"}, "proxy": {"mode": "external"}}, ("rootfs", "minio")),
        ({"proxy": {"mode": "managed"}, "auth": {"mode": "managed"}}, ()),
    ],
)
def test_set_up_makes_what_the_stacks_images_are_built_from(
    clone: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, object], artefacts: tuple[str, ...]
) -> None:
    content = {"config": {f"{stacks.PROJECT}:{key}": value for key, value in config.items()}}
    (clone / "Pulumi.dev.yaml").write_text(json.dumps(content))
    monkeypatch.setattr(stacks, "VENV", Path(sys.prefix))
    assert stacks.settings("dev").artefacts == artefacts
