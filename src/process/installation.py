"""How Quotestream is installed: the name of its command, and the files that it needs beside its code.

These are the market file and the NATS configuration. A checkout has them in its own folder. A wheel contains copies for
folders without them: `force-include` in pyproject.toml.
"""

from pathlib import Path

_BUNDLED = Path(__file__).parent / "bundled"

COMMAND = "quotestream" if _BUNDLED.is_dir() else "./qs"
"""The command that runs recipes, for messages to people: the installed one, or the one of a checkout."""


def bundled_file(folder: Path, name: Path, bundled: Path = _BUNDLED) -> Path:
    """Return the path of a bundled file: in the folder, or else in the wheel.

    A file that is in neither belongs in the folder, so that path is returned.
    """
    own, copy = folder / name, bundled / name
    return copy if copy.exists() and not own.exists() else own
