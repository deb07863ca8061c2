"""Folders of tokens, and what a request shows."""

from pathlib import Path

from web.roles import Role


def token_of(role: Role) -> str:
    """A role's token, where `tokens_in` made them."""
    return f"the-token-of-the-{role}-in-a-test".ljust(40, ".")


def tokens_in(folder: Path) -> Path:
    """A folder with a token a role."""
    folder.mkdir()
    for role in Role:
        give(folder, role, token_of(role))
    return folder


def give(folder: Path, role: Role, *tokens: str, mode: int = 0o600) -> None:
    """Have a role's file hold these."""
    part = folder / f"{role}.part"
    part.write_text("".join(f"{token}\n" for token in tokens))
    part.chmod(mode)
    part.replace(folder / role)


def shown(role: Role) -> dict[str, str]:
    """The headers that show a role's token."""
    return {"Authorization": f"Bearer {token_of(role)}"}
