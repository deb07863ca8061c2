"""The file of seals, each signed with the operator's key.

Each line has a seal in base 64, and its signature. Keep the key and copies of the file where nobody who can write the
log can write: only a seal reveals that the log was cut back to before it.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from audit.hash_chain import Seal
from process import durable
from recorded.streams import CannotRead

SEALS = "seals.jsonl"
"""The file's name in the data folder."""


class _Line(msgspec.Struct, frozen=True):
    """One line. The bytes of `sealed` are what is signed."""

    sealed: str
    signature: str


def signing_key(path: Path) -> SigningKey:
    """Read the key from a file. If there is no such file, create a key, and beside it its public half as `.pub`.

    Raises:
        CannotRead: the file does not contain a key.
        OSError: the file cannot be read or written.
    """
    if not path.exists():
        key = SigningKey.generate()
        durable.write(path, base64.b64encode(bytes(key)) + b"\n")
        durable.write(path.with_name(f"{path.name}.pub"), base64.b64encode(bytes(key.verify_key)) + b"\n")
        return key
    return SigningKey(_key(path))


def append(path: Path, seal: Seal, key: SigningKey) -> None:
    """Sign a seal, append it to the file, and sync the file.

    Raises:
        OSError: the file cannot be written.
    """
    sealed = base64.b64encode(msgspec.json.encode(seal))
    signature = base64.b64encode(key.sign(sealed).signature)
    durable.append(path, msgspec.json.encode(_Line(sealed.decode(), signature.decode())))


def read(path: Path, public: Path) -> Sequence[Seal]:
    """Return the seals that are signed with the key whose public half is in `public`. Skips others and torn lines.

    Raises:
        CannotRead: `public` does not contain a key.
        OSError: a file cannot be read.
    """
    key = VerifyKey(_key(public))
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = []
    for line in lines:
        try:
            entry = msgspec.json.decode(line, type=_Line)
            key.verify(entry.sealed.encode(), base64.b64decode(entry.signature))
            found.append(msgspec.json.decode(base64.b64decode(entry.sealed), type=Seal))
        except (msgspec.DecodeError, ValueError, BadSignatureError):
            continue
    return found


def _key(path: Path) -> bytes:
    try:
        key = base64.b64decode(path.read_bytes().strip(), validate=True)
    except ValueError as error:
        raise CannotRead(f"{path} does not contain a key: {error}") from error
    if len(key) != 32:  # bytes of an Ed25519 key
        raise CannotRead(f"{path} does not contain a key, but {len(key)} bytes")
    return key
