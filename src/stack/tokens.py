"""`stack tokens`: create the tokens of HTTP clients, and change them while everything runs."""

import secrets

from process import durable
from process.settings import SettingsError
from stack.settings import StackSettings
from web.roles import Role
from web.tokens import TokensError, read_lines

FOLDER = "tokens"
"""The folder's name in the data folder, unless QS_STACK_TOKENS names another."""


def make(settings: StackSettings, change: Role | None) -> int:
    """Create a token for each role that has none, and a new one for the role `change`. Return the exit code.

    The role's previous token stays valid, and the one before it does not: change a token twice to invalidate both.

    Raises:
        SettingsError: the folder cannot be written, or its content is invalid.
    """
    folder = settings.folder / (settings.stack.tokens or settings.stack.data_dir / FOLDER)
    try:
        durable.make_folder(folder)
        for role in Role:
            known = [line.text for line in read_lines(folder / role)]
            if role is change or not known:
                fields = " ".join(known[0].split()[1:]) if known else ""
                tokens = [f"{secrets.token_urlsafe(32)} {fields}".strip(), *known[:1]]
                durable.write(folder / role, "".join(f"{token}\n" for token in tokens))
                print(f"{folder / role}: {'a new token, and the previous one' if known else 'a token'}")
    except OSError as error:
        raise SettingsError(f"{folder}: {error.strerror}; QS_STACK_TOKENS names another folder") from error
    except TokensError as error:
        raise SettingsError(str(error)) from error
    if not settings.stack.tokens:
        print(f"QS_STACK_TOKENS={folder} enables them")
    return 0
