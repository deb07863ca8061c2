"""`stack tokens`: make the tokens of HTTP clients, and change them while everything runs."""

import os
import secrets
from pathlib import Path

from runtime.roles import Role
from runtime.settings import SettingsError
from runtime.tokens import TokensError, lines
from stack.settings import StackSettings

FOLDER = "tokens"
"""The folder's name in the data folder, unless QS_STACK_TOKENS names another."""


def make(settings: StackSettings, change: Role | None) -> int:
    """Give each role without a token one, and `change` a new one, beside the one it had. Returns the exit code.

    The one before the last stops being valid: change a role's token twice to end both.

    Raises:
        SettingsError: the folder cannot be written, or makes no sense.
    """
    folder = settings.folder / (settings.stack.tokens or settings.stack.data_dir / FOLDER)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for role in Role:
            known = lines(folder / role)
            if role is change or not known:
                _write(folder / role, [secrets.token_urlsafe(32), *known[:1]])
                print(f"{folder / role}: {'a new token, and the one before' if known else 'a token'}")
    except OSError as error:
        raise SettingsError(f"{folder}: {error.strerror}; QS_STACK_TOKENS names another folder") from error
    except TokensError as error:
        raise SettingsError(str(error)) from error
    if not settings.stack.tokens:
        print(f"QS_STACK_TOKENS={folder} turns them on")
    return 0


def _write(file: Path, tokens: list[str]) -> None:
    """Write a file whole, for its owner only: a service reads all of it, or what was there before."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.writelines(f"{token}\n" for token in tokens)
    part.replace(file)
