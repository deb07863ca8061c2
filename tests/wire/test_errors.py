"""Refusals: their slugs, and their round trip as problem details."""

import pytest

from wire.errors import Refusal, Refused


def test_all_slugs_of_refusals_differ() -> None:
    assert len({refusal.slug for refusal in Refusal}) == len(Refusal)


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_survives_a_round_trip_as_a_problem_detail(refusal: Refusal) -> None:
    sent = Refused(refusal, "because", field="quantity")
    received = Refused.from_problem(sent.problem)
    assert (received.refusal, received.detail, received.field, received.retry_after) == (
        refusal,
        "because",
        "quantity",
        sent.retry_after,
    )


def test_only_retryable_refusals_have_a_retry_after() -> None:
    assert Refused(Refusal.OUTCOME_UNKNOWN).retry_after == 1
    assert Refused(Refusal.STALE_QUOTE).retry_after is None
