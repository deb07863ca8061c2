"""Folders of tokens, and what a request shows."""

from pathlib import Path

from web.roles import Role


def token_of(role: Role) -> str:
    """A role's token, where `token_folder` made them."""
    return f"the-token-of-the-{role}-in-a-test".ljust(40, ".")


def token_folder(folder: Path) -> Path:
    """A folder with a token a role."""
    folder.mkdir()
    for role in Role:
        write_tokens(folder, role, token_of(role))
    return folder


def write_tokens(folder: Path, role: Role, *tokens: str, mode: int = 0o600) -> None:
    """Have a role's file hold these."""
    part = folder / f"{role}.part"
    part.write_text("".join(f"{token}\n" for token in tokens))
    part.chmod(mode)
    part.replace(folder / role)


def auth_headers(role: Role) -> dict[str, str]:
    """The headers that show a role's token."""
    return {"Authorization": f"Bearer {token_of(role)}"}
