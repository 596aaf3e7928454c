"""Which room may import which: arrows point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.recorder import ROOT

MAY_IMPORT = {
    "__main__": {"components", "outputs", "settings"},
    "settings": {"settings"},
    "outputs": set(),
    "components": {"components", "outputs", "providers", "settings", "toolchain"},
    "providers": {"providers"},
    "toolchain": {"toolchain"},
    "flows": set(),
}
ROOMS = {*MAY_IMPORT, "scripts", "tests", "policy"}
FILES = sorted(
    path
    for pattern in (
        "*.py",
        "components/**/*.py",
        "settings/**/*.py",
        "providers/**/*.py",
        "toolchain/*.py",
        "flows/**/*.py",
    )
    for path in ROOT.glob(pattern)
)


def imported(path: Path) -> set[str]:
    """Rooms that a file imports from, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names} & ROOMS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_arrows_point_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert imported(path) <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", [p for p in FILES if "components" in p.parts], ids=lambda path: path.name)
def test_components_never_read_the_configuration(path: Path) -> None:
    assert "pulumi.Config" not in path.read_text()


def test_no_room_has_the_name_of_a_module_that_a_provider_process_imports() -> None:
    """A dynamic provider process runs in this directory, which comes first on its path."""
    tops = {
        p.name.removesuffix(".py") for p in ROOT.iterdir() if (p.is_dir() and any(p.glob("*.py"))) or p.suffix == ".py"
    }
    tops -= {"__main__"}
    assert not tops & set(sys.stdlib_module_names)
    code = "import importlib.metadata as m; print(*sorted({n for d in m.packages_distributions() for n in [d]}))"
    installed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert not tops & set(installed.stdout.split())


def test_providers_import_no_heavy_library() -> None:
    """check and diff run in every preview: what only calls need is imported by the calls."""
    code = (
        "import sys, pkgutil, importlib, providers\n"
        "for m in pkgutil.walk_packages(providers.__path__, 'providers.'): importlib.import_module(m.name)\n"
        "print(*(n for n in ('minio', 'prefect', 'httpx', 'docker') if n in sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.split() == []


SCRIPTS = [
    file
    for file in sorted((ROOT / "scripts").iterdir())
    # scripts/docs is for those who work on the project, and run it with its packages.
    if file.is_file() and file.name != "docs" and "python" in file.read_text().partition("\n")[0]
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_start_before_there_are_packages(script: Path) -> None:
    done = subprocess.run([sys.executable, "-S", script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
