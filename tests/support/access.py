"""Folders of tokens, and the headers of requests that use them."""

from pathlib import Path

from web.roles import Role


def token_of(role: Role) -> str:
    """Return a role's token in a folder that `token_folder` made."""
    return f"the-token-of-the-{role}-in-a-test".ljust(40, ".")


def token_folder(folder: Path) -> Path:
    """Create a folder with a token for each role."""
    folder.mkdir()
    for role in Role:
        write_tokens(folder, role, token_of(role))
    return folder


def write_tokens(folder: Path, role: Role, *tokens: str, mode: int = 0o600) -> None:
    """Replace the tokens of a role."""
    part = folder / f"{role}.part"
    part.write_text("".join(f"{token}\n" for token in tokens))
    part.chmod(mode)
    part.replace(folder / role)


def auth_headers(role: Role) -> dict[str, str]:
    """Return the headers that authenticate with a role's token."""
    return {"Authorization": f"Bearer {token_of(role)}"}
