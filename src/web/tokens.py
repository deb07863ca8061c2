"""Bearer tokens and their roles, from a folder with one file per role.

A file is named after its role, has mode 0600 and contains one token per line. A token has the roles of all files that
contain it. Our own clients send the first token of a file; the others are valid as well, so tokens can be replaced
while everything runs. After the token, a line may contain `name=`, its owner; `expires=`, when it expires (RFC 3339);
and `rate=`, the most requests per second that each service accepts with this token if they change something, and the
largest burst of them. Changes in the folder take effect within a second. An invalid change is logged, and the previous
tokens stay valid until it is corrected.

Tokens are looked up by digest. A client cannot choose a digest near a known one, so the duration of a look-up reveals
nothing. Neither a token nor its digest is ever revealed.
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
"""How long the folder is assumed to be unchanged after a check, in seconds."""

SESSION_LIFETIME = 12 * 3600
"""How long a page stays signed in, in seconds."""

_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{32,200}")

_Stamp = list[tuple[str, int, int, int, int]]

log = structlog.get_logger()


class RateLimit:
    """A rate limit: a token bucket that permits `per_second` requests per second, and as many in one burst."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._burst = max(1.0, per_second)
        self._available = self._burst
        self._updated_at = 0.0

    def take(self, now: float) -> bool:
        """True if one more request is permitted at `now`, in seconds on a monotonic clock. If so, it is counted."""
        self._available = min(self._burst, self._available + (now - self._updated_at) * self._per_second)
        self._updated_at = now
        if self._available < 1:
            return False
        self._available -= 1
        return True

    def retry_after(self) -> int:
        """Return the whole seconds, at least one, after which a request will be permitted if none comes before."""
        return max(1, math.ceil((1 - self._available) / self._per_second))


@dataclass(frozen=True, slots=True)
class TokenLine:
    """One line of a file.

    Attributes:
        token: the token.
        name: its owner; empty if the line names none.
        expires: when it expires; None if never.
        rate: the permitted requests per second that change something; None for no limit.
        text: the whole line.
    """

    token: str
    name: str
    expires: datetime | None
    rate: float | None
    text: str


@dataclass(slots=True)
class Bearer:
    """The owner of a token, and what they may do."""

    roles: Roles
    name: str
    expires: datetime | None = None
    rate: RateLimit | None = None


STRANGER = Bearer(NOBODY, "")


class TokensError(Exception):
    """The folder of tokens is invalid; the message says why, and contains no token."""


class Tokens:
    """The tokens of a folder.

    Attributes:
        clock: the clock by which tokens and sessions expire: the machine's, until `Access.use_clock` replaces it.

    Raises:
        TokensError: there is no such folder, or a file in it is invalid.
    """

    def __init__(self, folder: Path) -> None:
        self.clock: Clock = utc_now
        self._folder = folder
        self._stamp = _stamp(folder)
        self._checked_at = time.monotonic()
        self._replace(_read(folder))

    def roles(self, token: bytes) -> Roles:
        """Return the roles of a token; none if it is unknown or has expired."""
        return self.bearer(token).roles

    def bearer(self, token: bytes) -> Bearer:
        """Return the bearer of a token; `STRANGER` if it is unknown or has expired."""
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
        """True if a session has not expired, and its token is still valid and may read."""
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
            log.error("tokens cannot be read, the previous ones stay valid", error=str(error))  # noqa: TRY400 # the text suffices
        else:
            log.info("tokens read again")

    def _replace(self, found: dict[bytes, Bearer]) -> None:
        self._bearers = {sha256(token).digest(): bearer for token, bearer in found.items()}
        self._readers = [token for token, bearer in found.items() if bearer.roles & READ]


class TokenFile:
    """The token that one of our clients sends: the first of a file, which is read again when it changes.

    Raises:
        TokensError: there is no such file, or it is invalid.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._changed = -1
        self._checked_at = -RELOAD_INTERVAL
        self._token = ""
        if not tokens_of(file):
            raise TokensError(f"{file}: contains no token")

    def __call__(self) -> str:
        """Return the token. If the file can no longer be read, return the previous one."""
        now = time.monotonic()
        if now - self._checked_at >= RELOAD_INTERVAL:
            self._checked_at = now
            with suppress(OSError, TokensError):
                changed = self._file.stat().st_mtime_ns
                if changed != self._changed:
                    self._token = next(iter(tokens_of(self._file)), self._token)
                    self._changed = changed
        return self._token


def tokens_of(file: Path) -> list[str]:
    """Return the tokens of a file; none if it does not exist. Raises what `read_lines` raises."""
    return [line.token for line in read_lines(file)]


def read_lines(file: Path) -> list[TokenLine]:
    """Return the lines of a file, without the empty ones; none if it does not exist.

    Raises:
        TokensError: the file cannot be read, is readable by others, or contains anything else.
    """
    try:
        if file.stat().st_mode & 0o077:
            raise TokensError(f"{file}: others may read it; it must have mode 0600")
        texts = file.read_text().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise TokensError(f"{file}: {getattr(error, 'strerror', '') or 'is not text'}") from error
    return [line for number, text in enumerate(texts, start=1) if text.strip() for line in _parsed(file, number, text)]


def _parsed(file: Path, number: int, text: str) -> list[TokenLine]:
    """Return the tokens of a line (usually one). The options apply to the last."""
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
                f"{file}: line {number}: a token is 32 to 200 of A-Z a-z 0-9 . _ ~ + / = -; "
                f"delete the file, and `{COMMAND} tokens` creates it with a new token"
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
        for line in read_lines(folder / role):
            bearer = found.setdefault(line.token.encode(), Bearer(NOBODY, ""))
            bearer.roles |= {role}
            bearer.name = line.name or bearer.name or str(role)
            if line.expires is not None:
                bearer.expires = min(line.expires, bearer.expires or line.expires)
            if line.rate is not None:
                bearer.rate = RateLimit(line.rate)
    if not found:
        raise TokensError(f"{folder}: contains no tokens; its files are named {', '.join(Role)}")
    return found


def _stamp(folder: Path) -> _Stamp:
    """Return a value that changes whenever a file changes."""
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
