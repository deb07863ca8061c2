"""Decoding of messages from outside. It is stricter than decoding what a log already contains.

msgspec checks fields, types and ranges. It cannot check two things, because they are lost when a message is decoded:

- **How a price or a fee is written.** Python's `Decimal` also accepts blanks, `_`, digits of other scripts, signs and
  exponents. But these values enter logs and fills, which other programs read. So they must be written as digits with at
  most one point.
- **Duplicate keys.** Parsers differ in which of two equal keys they use, so a message with duplicate keys is refused.

Logs are read without these checks: what is recorded counts, however it is written.
"""

import json
import re
import types
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, inspect

from wire.units import FieldError

T = TypeVar("T")

_NUMBER = r"(?:[1-9][0-9]*|0(?!\.0{6}[0-9]))(?:\.[0-9]+)?"
"""Digits with at most one point. `Decimal` would write anything below 0.000001 with an exponent."""

_is_plain = re.compile(rf'"{_NUMBER}"|{_NUMBER}'.encode()).fullmatch


class StrictDecoder(Generic[T]):
    """Decodes messages of one type."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        info = inspect.type_info(kind)
        prices = _prices(info)
        self._prices = msgspec.json.Decoder(prices) if prices is not None else None
        self._required_keys = _required_keys(info)

    def decode(self, body: bytes | bytearray) -> T:
        """Decode a message.

        Raises:
            msgspec.ValidationError: it is not of this type; its cause may be a FieldError that names the field.
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is not JSON.
        """
        try:
            message = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            self._name_the_key(body, error)
            raise
        try:
            if self._prices is not None:
                _check_prices(self._prices.decode(body))
            # A colon follows each key, so a message with no more colons than required keys has no duplicate key.
            if body.count(b":") > self._required_keys:
                json.loads(body, object_pairs_hook=_check_keys, parse_int=str, parse_float=str)
        except FieldError as error:
            raise msgspec.ValidationError(str(error)) from error
        return message

    def _name_the_key(self, body: bytes | bytearray, error: msgspec.ValidationError) -> None:
        """Raise an error that names the wrong price of a dictionary, which msgspec does not name."""
        if self._prices is not None and "[...]" in str(error):
            try:
                _check_prices(self._prices.decode(body))
            except FieldError as named:
                raise msgspec.ValidationError(str(named)) from named


def _prices(info: inspect.Type) -> Any:
    """Return a type that decodes only the prices of `info`, as they are written; None if it has no prices."""
    if isinstance(info, inspect.Metadata):
        return _prices(info.type)
    if isinstance(info, inspect.DecimalType):
        return Raw
    if isinstance(info, inspect.UnionType) and any(_prices(kind) is Raw for kind in info.types):
        return Raw
    if isinstance(info, inspect.DictType):
        kind = _prices(info.value_type)
        return None if kind is None else types.GenericAlias(dict, (str, kind))
    if isinstance(info, inspect.StructType):
        found = [(field.encode_name, _prices(field.type)) for field in info.fields]
        kept = [(name, kind | msgspec.UnsetType, UNSET) for name, kind in found if kind is not None]
        return msgspec.defstruct(f"{info.cls.__name__}Prices", kept) if kept else None
    return None


def _check_prices(found: Any) -> None:
    for field in found.__struct_fields__:
        written = getattr(found, field)
        if isinstance(written, dict):
            for key, price in written.items():
                if not _is_plain(price):
                    raise _not_plain(f"{field}.{key}")
        elif not isinstance(written, Raw):
            if written is not UNSET:
                _check_prices(written)
        elif not _is_plain(written) and bytes(written) != b"null":  # msgspec checks where null is allowed
            raise _not_plain(field)


def _not_plain(field: str) -> FieldError:
    return FieldError(field, "must be written as digits with at most one point, such as 100.05")


def _required_keys(info: inspect.Type) -> int:
    """Return the smallest number of keys that a message of a type may have."""
    if isinstance(info, inspect.Metadata):
        return _required_keys(info.type)
    if not isinstance(info, inspect.StructType):
        return 0
    return sum(1 + _required_keys(field.type) for field in info.fields if field.required)


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise FieldError(key, "occurs twice")
        seen.add(key)
