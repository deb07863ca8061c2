"""Which maker quotes a symbol first."""

from itertools import pairwise

import pytest

from maker.rendezvous import Rendezvous

SYMBOLS = [f"S{number:04d}" for number in range(2000)]


def firsts(makers: list[str]) -> dict[str, str]:
    """Return the first maker of each symbol, after checking that all makers agree on the ranking."""
    ranks = {maker: Rendezvous(SYMBOLS).ranks(maker, makers) for maker in makers}
    for symbol in SYMBOLS:
        assert sorted(ranks[maker][symbol] for maker in makers) == list(range(len(makers))), "all agree on the order"
    return {symbol: next(maker for maker in makers if ranks[maker][symbol] == 0) for symbol in SYMBOLS}


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_every_symbol_has_one_first_maker_and_makers_get_about_equal_shares(count: int) -> None:
    makers = [f"maker-{number}" for number in range(count)]
    found = list(firsts(makers).values())
    share = len(SYMBOLS) / count
    assert all(0.7 * share <= found.count(maker) <= 1.3 * share for maker in makers)


def test_when_a_maker_joins_or_leaves_only_its_own_symbols_move() -> None:
    groups = [["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d"]]
    for fewer, more in pairwise(map(firsts, groups)):
        joined = set(more.values()) - set(fewer.values())
        assert all(fewer[symbol] == more[symbol] or more[symbol] in joined for symbol in SYMBOLS)


def test_a_single_maker_is_first_for_every_symbol_whoever_was_present_before() -> None:
    rendezvous = Rendezvous(SYMBOLS)
    assert any(rendezvous.ranks("a", ["a", "b"]).values())
    assert not any(rendezvous.ranks("a", ["a"]).values())
