"""`stack tokens`: make the tokens of HTTP clients, and change them while everything runs."""

import secrets

from process import durable
from process.settings import SettingsError
from stack.settings import StackSettings
from web.roles import Role
from web.tokens import TokensError, read

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
        durable.make_folder(folder)
        for role in Role:
            known = [line.text for line in read(folder / role)]
            if role is change or not known:
                said = " ".join(known[0].split()[1:]) if known else ""
                tokens = [f"{secrets.token_urlsafe(32)} {said}".strip(), *known[:1]]
                durable.write(folder / role, "".join(f"{token}\n" for token in tokens))
                print(f"{folder / role}: {'a new token, and the one before' if known else 'a token'}")
    except OSError as error:
        raise SettingsError(f"{folder}: {error.strerror}; QS_STACK_TOKENS names another folder") from error
    except TokensError as error:
        raise SettingsError(str(error)) from error
    if not settings.stack.tokens:
        print(f"QS_STACK_TOKENS={folder} turns them on")
    return 0
