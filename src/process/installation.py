"""What comes with Quotestream beside its code: the market file, the configuration of NATS, and the command's name.

A checkout has them in its own folder. A wheel carries copies, for any folder that has none: `force-include` in
pyproject.toml.
"""

from pathlib import Path

_BUNDLED = Path(__file__).parent / "bundled"

COMMAND = "quotestream" if _BUNDLED.is_dir() else "./qs"
"""How a person runs a recipe here, for messages that name one: installed from a wheel, or from a checkout."""


def bundled_file(folder: Path, name: Path, bundled: Path = _BUNDLED) -> Path:
    """Where a file is that comes with Quotestream: in the folder, or else in the wheel.

    What is in neither is named as the folder's, which is where it belongs.
    """
    own, other = folder / name, bundled / name
    return other if other.exists() and not own.exists() else own
