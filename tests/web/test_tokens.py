"""Tokens: read from files, valid while a file contains them, and never revealed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from support.access import token_folder, token_of, write_tokens
from support.clock import ManualClock
from web import tokens
from web.access import Access
from web.roles import NOBODY, Role
from web.tokens import SESSION_LIFETIME, RateLimit, TokenFile, Tokens, TokensError

NEW = "a-new-token-of-forty-characters-or-more"


@pytest.fixture(autouse=True)
def reloads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "RELOAD_INTERVAL", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return token_folder(tmp_path / "tokens")


def test_a_token_has_the_roles_of_all_files_that_contain_it(folder: Path) -> None:
    write_tokens(folder, Role.TRADER, token_of(Role.TRADER), token_of(Role.READER))
    known = Tokens(folder)
    assert known.roles(token_of(Role.TRADER).encode()) == {Role.TRADER}
    assert known.roles(token_of(Role.READER).encode()) == {Role.TRADER, Role.READER}
    assert known.roles(b"") == known.roles(b"unknown") == NOBODY


def test_a_token_can_be_replaced_while_the_service_runs(folder: Path) -> None:
    """First both are valid, then only the new one."""
    known, old = Tokens(folder), token_of(Role.TRADER)
    write_tokens(folder, Role.TRADER, NEW, old)
    assert known.roles(NEW.encode()) == known.roles(old.encode()) == {Role.TRADER}
    write_tokens(folder, Role.TRADER, NEW)
    assert (known.roles(NEW.encode()), known.roles(old.encode())) == ({Role.TRADER}, NOBODY)
    (folder / Role.TRADER).unlink()
    assert known.roles(NEW.encode()) == NOBODY


@pytest.mark.parametrize(("content", "mode"), [("short", 0o600), (NEW, 0o640), (NEW, 0o604), ("ä" * 40, 0o600)])
def test_an_invalid_file_is_refused_and_its_content_is_not_revealed(folder: Path, content: str, mode: int) -> None:
    known = Tokens(folder)
    write_tokens(folder, Role.MAKER, content, mode=mode)
    with pytest.raises(TokensError) as refused:
        Tokens(folder)
    assert str(folder / Role.MAKER) in str(refused.value)
    with capture_logs() as logged:
        assert known.roles(token_of(Role.MAKER).encode()) == {Role.MAKER}, "the previous tokens stay valid"
    assert [line["log_level"] for line in logged] == ["error"]
    assert content not in f"{refused.value} {logged}"


def test_a_missing_or_empty_folder_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(TokensError, match=str(folder)):
            Tokens(folder)


def test_a_session_is_valid_for_its_lifetime_while_its_token_is(folder: Path, clock: ManualClock) -> None:
    known, token = Tokens(folder), token_of(Role.READER)
    known.clock = clock
    session = known.new_session(token.encode())
    assert token not in session
    clock.advance(SESSION_LIFETIME - 1)
    assert known.is_valid_session(session)
    clock.advance(1)
    assert not known.is_valid_session(session)
    clock.advance(-SESSION_LIFETIME)
    assert known.is_valid_session(session)
    until, _, seal = session.partition(".")
    for forged in (f"{int(until) + 1}.{seal}", f"{until}.{seal[::-1]}", until, "", "x.y", "9" * 5000, f"{until}.ä"):
        assert not known.is_valid_session(forged), forged
    assert not known.is_valid_session(known.new_session(token_of(Role.TRADER).encode()))
    write_tokens(folder, Role.READER, NEW)
    assert not known.is_valid_session(session)


def test_a_client_sends_the_current_first_token_of_its_file(folder: Path) -> None:
    token = TokenFile(folder / Role.TRADER)
    assert token() == token_of(Role.TRADER)
    write_tokens(folder, Role.TRADER, NEW, token_of(Role.TRADER))
    assert token() == NEW
    (folder / Role.TRADER).unlink()
    assert token() == NEW
    with pytest.raises(TokensError):
        TokenFile(folder / Role.TRADER)


def test_a_line_names_the_owner_and_the_expiry_of_its_token(folder: Path) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    write_tokens(folder, Role.TRADER, f"{NEW} name=alice@desk-1 expires={soon}", token_of(Role.TRADER))
    known = Tokens(folder)
    assert known.bearer(NEW.encode()).name == "alice@desk-1"
    assert known.bearer(token_of(Role.TRADER).encode()).name == "trader"
    assert known.roles(NEW.encode()) == {Role.TRADER}
    assert TokenFile(folder / Role.TRADER)() == NEW
    write_tokens(folder, Role.READER, f"{NEW} expires=2026-01-01")
    assert known.roles(NEW.encode()) == NOBODY, "whichever file contains the expiry"


def test_a_token_expires_by_the_clock_of_the_service(folder: Path, clock: ManualClock) -> None:
    access = Access(Tokens(folder))
    write_tokens(folder, Role.TRADER, f"{NEW} expires={(clock() + timedelta(seconds=60)).isoformat()}")
    access.use_clock(clock)
    shows = {b"authorization": b"Bearer " + NEW.encode()}
    assert access.roles_of(shows) == {Role.TRADER}
    clock.advance(60)
    assert access.roles_of(shows) == NOBODY


def test_a_session_expires_with_its_token(folder: Path) -> None:
    write_tokens(folder, Role.READER, NEW)
    known = Tokens(folder)
    session = known.new_session(NEW.encode())
    assert known.is_valid_session(session)
    write_tokens(folder, Role.READER, f"{NEW} expires=2026-01-01")
    assert not known.is_valid_session(session)


@pytest.mark.parametrize("option", ["name=", "name=a,b", "expires=soon", "rate=fast", "rate=0", "rate=-1", "rate=nan"])
def test_a_line_with_an_invalid_option_is_refused(folder: Path, option: str) -> None:
    write_tokens(folder, Role.MAKER, f"{NEW} {option}")
    with pytest.raises(TokensError, match="line 1"):
        Tokens(folder)


@pytest.mark.parametrize("invalid", [f"{NEW} rate=0", "short"])
def test_an_invalid_line_is_named_by_its_number_in_the_file_empty_lines_included(folder: Path, invalid: str) -> None:
    write_tokens(folder, Role.MAKER, token_of(Role.MAKER), "", "  ", invalid)
    with pytest.raises(TokensError, match="line 4: "):
        Tokens(folder)


@pytest.mark.parametrize(("per_second", "seconds"), [(1000.0, 1), (2.0, 1), (1.0, 1), (0.5, 2), (0.1, 10)])
def test_a_rate_limit_tells_when_the_next_request_is_permitted(per_second: float, seconds: int) -> None:
    rate = RateLimit(per_second)
    while rate.take(100.0):
        pass
    assert rate.retry_after() == seconds
    assert rate.take(100.0 + seconds)


def test_a_rate_limits_requests_per_second_and_the_burst() -> None:
    rate = RateLimit(2.0)
    assert [rate.take(100.0) for _ in range(3)] == [True, True, False]
    assert [rate.take(100.5) for _ in range(2)] == [True, False]
    assert [rate.take(200.5) for _ in range(3)] == [True, True, False]
