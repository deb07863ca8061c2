"""Refusals: a table of slugs and statuses, and problems that travel."""

import pytest

from wire.errors import Refusal, Refused


def test_every_refusal_has_a_slug_of_its_own() -> None:
    assert len({refusal.slug for refusal in Refusal}) == len(Refusal)


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_survives_the_way_to_another_service(refusal: Refusal) -> None:
    told = Refused(refusal, "because", field="quantity")
    heard = Refused.from_problem(told.problem)
    assert (heard.refusal, heard.detail, heard.field, heard.retry_after) == (
        refusal,
        "because",
        "quantity",
        told.retry_after,
    )


def test_only_what_may_pass_is_worth_a_retry() -> None:
    assert Refused(Refusal.OUTCOME_UNKNOWN).retry_after == 1
    assert Refused(Refusal.STALE_QUOTE).retry_after is None
