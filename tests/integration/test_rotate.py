"""scripts/rotate with the real Pulumi: the settings file that it leaves, and that the program takes it."""

from __future__ import annotations

import pytest
import yaml

from scripts.lib import rotate, stacks
from scripts.lib.setup import Ready
from scripts.lib.stacks import PROJECT, Stack
from settings import parse
from tests.integration.test_user import HAND_WRITTEN, STACK
from tests.integration.test_user import _stack as _stack  # noqa: PLC0414  (a fixture)


def test_numbers_go_up_and_comments_stay(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotate, "set_up", lambda *_given, **_options: Ready(STACK, (), dict(stack.env)))
    monkeypatch.setattr(rotate, "up", lambda *_given, **_options: 0)
    rotate.rotate(STACK, ["minio-key"], yes=True)
    rotate.rotate(STACK, ["minio-key", "api"], yes=True)
    text = stacks.tracked(STACK).read_text()
    assert "# a comment stays" in HAND_WRITTEN
    assert "# a comment stays" in text
    rotation = yaml.safe_load(text)["config"][f"{PROJECT}:rotation"]
    assert rotation == {"minio_key": 3, "api": 2}
    assert parse({"rotation": rotation}, STACK).rotation.minio_key == 3
