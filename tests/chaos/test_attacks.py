"""The attacks, as data."""

import itertools

from chaos.attacks import KINDS, NAME, Attack, Attacks, Known
from wire import subjects


def first(seed: str, count: int) -> list[list[Attack]]:
    known = Known({"MARKET-0": ["victim"]})
    known.observed("$KV.reservations.live", ended=False)
    known.observed("$KV.reservations.gone", ended=True)
    return list(itertools.islice(Attacks(seed, ["AAA", "BBB"], 2, known).bursts(), count))


def test_the_same_seed_gives_the_same_attacks_and_every_kind_comes_in_turn() -> None:
    assert first("1", 50) == first("1", 50) != first("2", 50)
    assert {burst[0].kind for burst in first("1", len(KINDS))} == set(KINDS)


def test_attacks_use_what_was_learned() -> None:
    every = [attack for burst in first("1", 200) for attack in burst]
    assert any("victim" in attack.subject for attack in every)
    marker = [attack for attack in every if attack.kind == "markers"]
    assert {attack.reply for attack in marker} == {
        "$KV.reservations.live",
        f"$KV.reservations.{NAME}",
        subjects.DECISIONS,
    }


def test_a_reservation_that_has_ended_is_no_longer_live() -> None:
    known = Known()
    known.observed("$KV.reservations.one", ended=False)
    known.observed("$KV.reservations.one", ended=True)
    assert (list(known.live), list(known.gone)) == ([], ["one"])
