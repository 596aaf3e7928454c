"""GeneratedSecret under the engine's calls; it has no server."""

from __future__ import annotations

import re

import pytest

from providers.generated_secret import GeneratedSecretProvider
from tests.integration.harness import CheckError, Engine, Props


def value(engine: Engine) -> str:
    assert engine.state is not None
    made: str = engine.state.outputs["value"]
    return made


def former_of(engine: Engine) -> str | None:
    assert engine.state is not None
    former: str | None = engine.state.outputs.get("former")
    return former


def program(**changes: object) -> Props:
    return {"length": 32, "version": 1} | changes


def test_it_is_made_once() -> None:
    engine = Engine(GeneratedSecretProvider())
    assert engine.up(program()) == "create"
    made = value(engine)
    assert re.fullmatch(r"[A-Za-z0-9]{32}", made)
    assert engine.up(program()) == "same"
    assert engine.refresh() == "same"
    assert engine.up(program()) == "same"
    # Known from the start: what is unknown in each preview would be a change in each.
    assert value(engine) == former_of(engine) == made
    engine.destroy()


def test_no_two_are_alike() -> None:
    engines = [Engine(GeneratedSecretProvider()) for _ in range(20)]
    for engine in engines:
        engine.up(program())
    assert len({value(engine) for engine in engines}) == 20


@pytest.mark.parametrize("change", [{"version": 2}, {"length": 40}])
def test_a_change_makes_a_new_one_in_place(change: Props) -> None:
    # In place, because what opens data is protected, and the engine replaces nothing that is.
    engine = Engine(GeneratedSecretProvider())
    engine.up(program())
    made = value(engine)
    assert engine.diff(program(**change)) == (True, [], False)
    assert engine.up(program(**change)) == "update"
    assert value(engine) != made
    assert former_of(engine) == made
    assert len(value(engine)) == change.get("length", 32)
    assert engine.up(program(**change)) == "same"


def test_one_that_is_given_is_held_and_known_as_the_former_one_later() -> None:
    engine = Engine(GeneratedSecretProvider())
    engine.up(program())
    made = value(engine)
    for given, former in (("first", made), ("second", "first"), ("second", "first")):
        engine.up(program(given=given))
        assert value(engine) == given
        assert former_of(engine) == former
    # The number changes nothing of it.
    engine.up(program(given="second", version=2))
    assert (value(engine), former_of(engine)) == ("second", "first")
    engine.up(program(version=2))
    assert re.fullmatch(r"[A-Za-z0-9]{32}", value(engine))
    assert former_of(engine) == "second"


@pytest.mark.parametrize("length", [8, 15, 129, 32.5, "32"])
def test_lengths_that_can_be_guessed_or_used_nowhere_are_refused(length: object) -> None:
    with pytest.raises(CheckError, match=r"^length: must be a whole number from 16 to 128"):
        Engine(GeneratedSecretProvider()).up(program(length=length))
