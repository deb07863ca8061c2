"""What travels together in one message, and what is not a valid pack."""

import msgspec
import pytest

from jet import packs


def parts(count: int, data: bytes = b"{}") -> list[packs.Part]:
    return [packs.part(f"_INBOX.one.{number}", data, {"n": str(number)}) for number in range(count)]


def test_a_pack_decodes_to_its_parts() -> None:
    several = [
        packs.part("_INBOX.one.ab12", b'{"a": 1}', None),
        packs.part("_INBOX.one.cd34", b'"\\u00e4"', {"h": "1"}),
    ]
    found = packs.decode(packs.encode(several))
    assert [(each.place, bytes(each.data), each.headers) for each in found] == [
        ("ab12", b'{"a": 1}', {}),
        ("cd34", b'"\\u00e4"', {"h": "1"}),
    ]


@pytest.mark.parametrize(
    ("several", "sizes"),
    [
        ([], []),
        (parts(1), [1]),
        (parts(packs.MAX_PARTS), [packs.MAX_PARTS]),
        (parts(packs.MAX_PARTS + 1), [packs.MAX_PARTS, 1]),
        (parts(3, b"1" * (packs.MAX_BYTES // 2)), [2, 1]),
        (parts(2, b"1" * (packs.MAX_BYTES + 1)), [1, 1]),
    ],
)
def test_packs_are_bounded_and_keep_the_order(several: list[packs.Part], sizes: list[int]) -> None:
    groups = list(packs.groups(several))
    assert [len(group) for group in groups] == sizes
    assert [part for group in groups for part in group] == several


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[[]]",
        b'[["ab"]]',
        b'[["", {}]]',
        b'[["a.b", {}]]',
        b'[["a>", {}]]',
        b'[["a b", {}]]',
        b'[["ab", {}, {"h": 1}]]',
        '[["\u00e4b", {}]]'.encode(),
        msgspec.json.encode([["a" * 65, {}]]),
        msgspec.json.encode([["ab", "x" * 2 * packs.MAX_BYTES]]),
        b"\xff",
        msgspec.json.encode([["ab", {}]] * (packs.MAX_PARTS + 1)),
    ],
)
def test_an_invalid_pack_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        packs.decode(data)
