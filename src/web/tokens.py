"""Bearer tokens: which roles each has, from a folder with a file a role.

A file is named after its role, has mode 0600 and one token a line; a token has the roles of all files it is in. The
first line is the one that our own clients send, the others are valid as well: so tokens are changed while everything
runs. Behind a token its line may say `name=`, whose it is; `expires=`, when it ends (RFC 3339); and `rate=`, how many
requests a second that change something each service takes of it, and at once. What changes in the folder is heard
within a second. A change that makes no sense is told in the log, and what was valid before stays so until it does.

Tokens are looked up by a digest, which a client cannot steer towards one that is known: how long that takes tells
nothing. Neither a token nor its digest is ever told to anyone.
"""

import hmac
import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import structlog

from process.clock import Clock, utc_now
from process.installation import COMMAND
from web.roles import NOBODY, READ, Role, Roles

RELOAD_INTERVAL = 1.0
"""Seconds after which the folder is looked at again, when somebody asks."""

SESSION_LIFETIME = 12 * 3600
"""Seconds for which a page that was shown a token is not asked for it again."""

_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{32,200}")

_Stamp = list[tuple[str, int, int, int, int]]

log = structlog.get_logger()


class Rate:
    """How many requests of one token are taken: so many a second, and as many at once."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._burst = max(1.0, per_second)
        self._available = self._burst
        self._updated_at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more may come at `now`, in seconds on a clock that only goes on; it is counted."""
        self._available = min(self._burst, self._available + (now - self._updated_at) * self._per_second)
        self._updated_at = now
        if self._available < 1:
            return False
        self._available -= 1
        return True

    def retry_after(self) -> int:
        """Whole seconds, at least one, after which one more may come if none does before."""
        return max(1, math.ceil((1 - self._available) / self._per_second))


@dataclass(frozen=True, slots=True)
class TokenLine:
    """One line of a file.

    Attributes:
        token: itself.
        name: whose it is; empty if nobody says.
        expires: when it ends; None if it does not.
        rate: requests a second that change something; None if they are not bounded.
        text: the line.
    """

    token: str
    name: str
    expires: datetime | None
    rate: float | None
    text: str


@dataclass(slots=True)
class Bearer:
    """Who shows a token."""

    roles: Roles
    name: str
    expires: datetime | None = None
    rate: Rate | None = None


STRANGER = Bearer(NOBODY, "")


class TokensError(Exception):
    """The folder of tokens makes no sense; the message says why, and names no token."""


class Tokens:
    """The tokens of a folder.

    Attributes:
        clock: by which tokens and sessions end: the machine's, until it is replaced by the one the service decides by.

    Raises:
        TokensError: there is no such folder, or a file in it makes no sense.
    """

    def __init__(self, folder: Path) -> None:
        self.clock: Clock = utc_now
        self._folder = folder
        self._stamp = _stamp(folder)
        self._checked_at = time.monotonic()
        self._replace(_read(folder))

    def roles(self, token: bytes) -> Roles:
        """The roles of a token: none if nobody knows it."""
        return self.bearer(token).roles

    def bearer(self, token: bytes) -> Bearer:
        """Who shows a token: `STRANGER` if nobody knows it, or it has expired."""
        self._reload()
        found = self._bearers.get(sha256(token).digest(), STRANGER)
        if found.expires is not None and self.clock() >= found.expires:
            return STRANGER
        return found

    def new_session(self, token: bytes) -> str:
        """Return the value of a page's cookie: a seal that only the token can check, valid for `SESSION_LIFETIME`."""
        until = int(self.clock().timestamp()) + SESSION_LIFETIME
        return f"{until}.{_seal(token, until)}"

    def is_valid_session(self, session: str) -> bool:
        """Whether a session was made from a token that may read, is not over, and the token still valid."""
        self._reload()
        until, _, seal = session.partition(".")
        if not (until.isascii() and until.isdigit() and len(until) < 16 and seal.isascii()):
            return False
        if self.clock().timestamp() >= int(until):
            return False
        return any(
            hmac.compare_digest(_seal(token, int(until)), seal) and self.roles(token) & READ for token in self._readers
        )

    def _reload(self) -> None:
        now = time.monotonic()
        if now - self._checked_at < RELOAD_INTERVAL:
            return
        self._checked_at = now
        stamp = _stamp(self._folder)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._replace(_read(self._folder))
        except TokensError as error:
            log.error("tokens cannot be read, the previous ones stay valid", error=str(error))  # noqa: TRY400 # it says all
        else:
            log.info("tokens read again")

    def _replace(self, found: dict[bytes, Bearer]) -> None:
        self._bearers = {sha256(token).digest(): bearer for token, bearer in found.items()}
        self._readers = [token for token, bearer in found.items() if bearer.roles & READ]


class TokenFile:
    """The token that a client of ours sends: the first line of a file, read again when it changes.

    Raises:
        TokensError: there is no such file, or it makes no sense.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._changed = -1
        self._checked_at = -RELOAD_INTERVAL
        self._token = ""
        if not lines(file):
            raise TokensError(f"{file}: no token in it")

    def __call__(self) -> str:
        """The token. One that cannot be read again stays as it was."""
        now = time.monotonic()
        if now - self._checked_at >= RELOAD_INTERVAL:
            self._checked_at = now
            with suppress(OSError, TokensError):
                changed = self._file.stat().st_mtime_ns
                if changed != self._changed:
                    self._token = next(iter(lines(self._file)), self._token)
                    self._changed = changed
        return self._token


def lines(file: Path) -> list[str]:
    """The tokens of one file; none if it is not there. Raises as `read` does."""
    return [line.token for line in read(file)]


def read(file: Path) -> list[TokenLine]:
    """The lines of one file; none if it is not there.

    Raises:
        TokensError: the file cannot be read, may be read by others, or holds something else.
    """
    try:
        if file.stat().st_mode & 0o077:
            raise TokensError(f"{file}: others may read it; it must have mode 0600")
        found = [text for text in file.read_text().splitlines() if text.strip()]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise TokensError(f"{file}: {getattr(error, 'strerror', '') or 'is no text'}") from error
    return [line for number, text in enumerate(found, start=1) for line in _parsed(file, number, text)]


def _parsed(file: Path, number: int, text: str) -> list[TokenLine]:
    """The tokens of a line, mostly one, with what it says of the last."""
    tokens: list[str] = []
    options: dict[str, str] = {}
    for word in text.split():
        key, _, value = word.partition("=")
        if tokens and key in ("name", "expires", "rate"):
            options[key] = value
        elif _TOKEN.fullmatch(word):
            tokens.append(word)
        else:
            raise TokensError(
                f"{file}: token {number} is not 32 to 200 of A-Z a-z 0-9 . _ ~ + / = -; "
                f"without the file, `{COMMAND} tokens` makes one with a new token"
            )
    try:
        if "name" in options and not _NAME.fullmatch(options["name"]):
            raise ValueError("a name is 1 to 64 of A-Z a-z 0-9 _ . @ -")
        expires = datetime.fromisoformat(options["expires"]) if "expires" in options else None
        if expires is not None and expires.tzinfo is None:
            expires = expires.replace(tzinfo=UTC)
        rate = float(options["rate"]) if "rate" in options else None
        if rate is not None and not 0 < rate <= 1_000_000:
            raise ValueError("a rate is above 0, and at most a million a second")
    except ValueError as error:
        raise TokensError(f"{file}: line {number}: {error}") from error
    *others, last = tokens
    return [
        *(TokenLine(token, "", None, None, token) for token in others),
        TokenLine(last, options.get("name", ""), expires, rate, text),
    ]


def _read(folder: Path) -> dict[bytes, Bearer]:
    if not folder.is_dir():
        raise TokensError(f"{folder}: no such folder")
    found: dict[bytes, Bearer] = {}
    for role in Role:
        for line in read(folder / role):
            bearer = found.setdefault(line.token.encode(), Bearer(NOBODY, ""))
            bearer.roles |= {role}
            bearer.name = line.name or bearer.name or str(role)
            if line.expires is not None:
                bearer.expires = min(line.expires, bearer.expires or line.expires)
            if line.rate is not None:
                bearer.rate = Rate(line.rate)
    if not found:
        raise TokensError(f"{folder}: no tokens in it; its files are named {', '.join(Role)}")
    return found


def _stamp(folder: Path) -> _Stamp:
    """What changes when a file does."""
    stamp: _Stamp = []
    for role in Role:
        try:
            file = (folder / role).stat()
        except OSError:
            continue
        stamp.append((role, file.st_mtime_ns, file.st_ino, file.st_size, file.st_mode))
    return stamp


def _seal(token: bytes, until: int) -> str:
    return hmac.new(token, b"a page until %d" % until, sha256).hexdigest()
