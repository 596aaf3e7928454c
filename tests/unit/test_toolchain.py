"""The key of an artefact follows its recipe, and nothing else."""

import shutil
from pathlib import Path

import pytest

from toolchain import artefacts
from toolchain.artefacts import NAMES, artefact, built


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "toolchain"
    shutil.copytree(artefacts.RECIPES, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(artefacts, "RECIPES", copy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy


@pytest.mark.parametrize("name", NAMES)
def test_every_artefact_has_a_recipe_that_can_run(name: str) -> None:
    recipe = artefacts.RECIPES / name / "build"
    assert recipe.stat().st_mode & 0o100, f"{recipe} is not executable"
    if name != "rootfs":
        for file in ("go.mod", "go.sum"):
            assert (recipe.parent / file).is_file(), f"{name} is built without a pinned {file}"


def test_a_key_changes_with_any_file_of_the_recipe_and_only_then(recipes: Path) -> None:
    before = {name: artefact(name).key for name in NAMES}
    (recipes / "docker-plugin" / "shim" / "shim.go").open("a").write("// changed\n")
    after = {name: artefact(name).key for name in NAMES}
    assert {name for name in NAMES if before[name] != after[name]} == {"docker-plugin"}


def test_a_renamed_file_is_another_recipe(recipes: Path) -> None:
    before = artefact("rootfs").key
    (recipes / "rootfs" / "trust.py").rename(recipes / "rootfs" / "other.py")
    assert artefact("rootfs").key != before


@pytest.mark.usefixtures("recipes")
def test_a_key_does_not_depend_on_where_the_clone_is() -> None:
    moved = artefact("minio").key
    assert moved == artefacts._key(Path(artefacts.__file__).parent / "minio")


@pytest.mark.usefixtures("recipes")
def test_an_artefact_lies_in_the_users_cache_and_is_built_when_it_is_there() -> None:
    rootfs = artefact("rootfs")
    assert rootfs.path == artefacts.cache() / "rootfs" / rootfs.key / "rootfs.tar"
    assert not built(rootfs)
    rootfs.path.parent.mkdir(parents=True)
    assert not built(rootfs)
    rootfs.path.touch()
    assert built(rootfs)


def test_the_cache_defaults_to_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert artefacts.cache() == Path.home() / ".cache" / "prefect-environment"
