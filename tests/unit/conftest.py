"""What unit tests share: the project's directory, and artefacts that need not be built."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import image
from tests.unit.recorder import ROOT
from toolchain.artefacts import Artefact, artefact


def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in the project's directory, stage builds elsewhere, and take small files for the large artefacts."""

    def small(name: str) -> Artefact:
        real = artefact(name)
        path = tmp_path / real.path.name
        path.touch()
        return dataclasses.replace(real, path=path)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(image, "STAGING", tmp_path / "build")
    monkeypatch.setattr(image, "artefact", small)
    monkeypatch.setattr(image, "built", lambda _: True)


@pytest.fixture
def _project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def _module_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        project(patch, tmp_path_factory.mktemp("project"))
        yield
