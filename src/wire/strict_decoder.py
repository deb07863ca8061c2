"""Messages as they enter from outside: read more strictly than those that are in a log already.

msgspec checks fields, types and ranges. Two things it does not see, because they are gone once a message is decoded:

- **How a price or a fee was written.** Python's `Decimal` also reads blanks, `_`, digits of other scripts, signs and
  exponents. What enters becomes part of logs and fills, which other programs read: it is written as digits with at most
  one point, or refused.
- **A key that is there twice.** Readers differ in which of the two they take, so there is no right one to take.

Logs are read without this: what is recorded counts, however it is written.
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
"""Digits and one point. What is smaller than 0.000001 `Decimal` would write with an exponent."""

_is_plain = re.compile(rf'"{_NUMBER}"|{_NUMBER}'.encode()).fullmatch


class StrictDecoder(Generic[T]):
    """Decodes messages of one kind as they enter."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        info = inspect.type_info(kind)
        prices = _prices(info)
        self._prices = msgspec.json.Decoder(prices) if prices is not None else None
        self._fewest = _keys(info)

    def decode(self, body: bytes | bytearray) -> T:
        """Decode a message.

        Raises:
            msgspec.ValidationError: it is not of this kind; its cause may be a FieldError that names the field.
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is no JSON.
        """
        try:
            message = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            self._name_the_key(body, error)
            raise
        try:
            if self._prices is not None:
                _check_prices(self._prices.decode(body))
            # Each key is followed by a colon, so that no key can be there twice if there are as few as there must be.
            if body.count(b":") > self._fewest:
                json.loads(body, object_pairs_hook=_check_keys, parse_int=str, parse_float=str)
        except FieldError as error:
            raise msgspec.ValidationError(str(error)) from error
        return message

    def _name_the_key(self, body: bytes | bytearray, error: msgspec.ValidationError) -> None:
        """Of prices by key msgspec does not say which is wrong: raise what does."""
        if self._prices is not None and "[...]" in str(error):
            try:
                _check_prices(self._prices.decode(body))
            except FieldError as named:
                raise msgspec.ValidationError(str(named)) from named


def _prices(info: inspect.Type) -> Any:
    """The same kind with nothing but its prices, as they are written; None if it has none."""
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
        elif not _is_plain(written) and bytes(written) != b"null":  # which is read, where it may be none
            raise _not_plain(field)


def _not_plain(field: str) -> FieldError:
    return FieldError(field, "must be written as digits with at most one point, such as 100.05")


def _keys(info: inspect.Type) -> int:
    """How many keys a message of a kind has at least."""
    if isinstance(info, inspect.Metadata):
        return _keys(info.type)
    if not isinstance(info, inspect.StructType):
        return 0
    return sum(1 + _keys(field.type) for field in info.fields if field.required)


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise FieldError(key, "is there twice")
        seen.add(key)
