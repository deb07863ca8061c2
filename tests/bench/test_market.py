"""The quotes and fills of a load, according to the market log."""

from datetime import timedelta

import msgspec

from bench.market import Story
from jet.tail import Message
from support.builders import NOW


def at(seconds: float, subject: str, body: object) -> Message:
    return Message(subject, 1, NOW + timedelta(seconds=seconds), msgspec.json.encode(body))


def quote(seconds: float, symbol: str, version: int, lives: float = 30.0) -> Message:
    body = {"type": "activated", "position_version": version, "expires_at": NOW + timedelta(seconds=seconds + lives)}
    return at(seconds, f"quotes.0.{symbol}", body)


def fill(seconds: float, symbol: str, *numbers: int) -> Message:
    return at(seconds, f"fills.0.{symbol}", [{"number": number} for number in numbers])


def story_of(*messages: Message) -> Story:
    story = Story()
    for message in messages:
        story.observe([message])
    return story


def test_quotes_and_fills_are_counted_by_when_they_were_stored() -> None:
    story = story_of(quote(0, "A", 0), fill(1, "A", 1, 2), quote(2, "A", 2), fill(3, "A", 3), quote(4, "A", 3))
    opens, closes = NOW + timedelta(seconds=1), NOW + timedelta(seconds=4)
    assert (story.quotes(opens, closes), story.filled(opens, closes)) == (1, 3)


def test_a_symbol_lags_until_a_quote_is_made_from_its_last_fill() -> None:
    assert story_of(fill(1, "A", 1), quote(2, "A", 1), fill(1, "B", 1), quote(2, "B", 0)).lagging == 1
    settled = story_of(fill(1, "A", 1), quote(2, "A", 1), fill(1, "B", 1), quote(3, "B", 1))
    assert (settled.lagging, settled.caught_up) == (0, NOW + timedelta(seconds=3))


def test_a_neglected_symbol_raises_the_unfairness() -> None:
    opens, closes = NOW, NOW + timedelta(seconds=10)
    in_turn = [quote(second, symbol, second) for second in range(10) for symbol in "AB"]
    assert story_of(*in_turn).unfairness(opens, closes) == 1
    passed_over = [*[quote(second, "A", second) for second in range(10)], quote(0, "B", 0), quote(9, "B", 1)]
    assert story_of(*passed_over).unfairness(opens, closes) == 9


def test_a_quote_that_expired_before_it_was_replaced_is_counted() -> None:
    assert story_of(quote(0, "A", 0, lives=2), quote(1, "A", 1, lives=2), quote(4, "A", 2)).expired == 1


def test_a_withdrawal_does_not_count_as_a_quote() -> None:
    withdrawn = at(2, "quotes.0.A", {"type": "withdrawn", "position_version": 1})
    story = story_of(fill(1, "A", 1), withdrawn)
    assert (story.lagging, story.quotes(NOW, NOW + timedelta(seconds=5))) == (1, 0)
