"""Seals: the sums of all shards at a time, signed with a key of the operator's.

A seal is a line of a file: the seal in base 64, and its signature. Keep the key, and copies of the file, where whoever
can write the log cannot: a log that is cut back to before a seal is only told by that seal.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from audit.chained import Seal
from process import durable
from recorded.streams import CannotRead

SEALS = "seals.jsonl"
"""The file's name in the data folder."""


class _Line(msgspec.Struct, frozen=True):
    """What is signed is `sealed` as it stands here."""

    sealed: str
    signature: str


def signing_key(path: Path) -> SigningKey:
    """The key in a file. If there is no such file, a key is made, and its public half beside it, as `.pub`.

    Raises:
        CannotRead: the file holds no key.
        OSError: it cannot be read or written.
    """
    if not path.exists():
        key = SigningKey.generate()
        durable.write(path, base64.b64encode(bytes(key)) + b"\n")
        durable.write(path.with_name(f"{path.name}.pub"), base64.b64encode(bytes(key.verify_key)) + b"\n")
        return key
    return SigningKey(_key(path))


def append(path: Path, seal: Seal, key: SigningKey) -> None:
    """Sign a seal, and add it to the file, synced.

    Raises:
        OSError: it cannot be written.
    """
    sealed = base64.b64encode(msgspec.json.encode(seal))
    signature = base64.b64encode(key.sign(sealed).signature)
    durable.append(path, msgspec.json.encode(_Line(sealed.decode(), signature.decode())))


def read(path: Path, public: Path) -> Sequence[Seal]:
    """The seals in a file that were signed with a key. Others, and torn lines, are left out.

    Raises:
        CannotRead: `public` holds no key.
        OSError: it cannot be read.
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
        raise CannotRead(f"{path} holds no key: {error}") from error
    if len(key) != 32:  # bytes of an Ed25519 key
        raise CannotRead(f"{path} holds no key, but {len(key)} bytes")
    return key
