"""A volume's terms: agreed once, refused when they change."""

from __future__ import annotations

from collections.abc import Mapping

from providers.data_contract import DataContractProvider

AGREED = {"volume": "p-dev-postgres-data", "terms": {"Postgres major version": "15", "images.source": "build"}}


def failures(olds: Mapping[str, object], news: Mapping[str, object]) -> list[str]:
    return [failure.reason for failure in DataContractProvider().check(dict(olds), dict(news)).failures]


def test_the_first_terms_are_taken() -> None:
    assert failures({}, AGREED) == []


def test_the_same_terms_are_fine() -> None:
    assert failures(AGREED, AGREED) == []


def test_other_terms_are_refused_with_volume_change_and_fix() -> None:
    asked = {**AGREED, "terms": {"Postgres major version": "17", "images.source": "registry"}}
    assert failures(AGREED, asked) == [
        (
            "the volume p-dev-postgres-data holds data that needs the old value, and would be unreadable: "
            "Postgres major version from 15 to 17, images.source from build to registry. "
            "Nothing was changed. Set it back; or move the data, as docs/move.md tells"
        )
    ]


def test_another_volume_has_its_own_terms() -> None:
    assert failures(AGREED, {"volume": "other", "terms": {"Postgres major version": "17"}}) == []
