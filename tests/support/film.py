"""An animation made of screenshots of a page: the browser encodes each as WebP, and this module joins the frames."""

import asyncio
import base64
import math
import struct

from playwright.async_api import Browser, Page

EVERY = 0.7
"""Seconds between two screenshots."""

SHOWN = 420
"""Milliseconds for which a frame is shown: faster than real time."""

HELD = 6000
"""Milliseconds for which the last frame is shown."""

MOST = 30
"""The largest number of frames besides the last one; if there are more, some are left out."""

QUALITY = 0.62

_ENCODE = """
async ([png, quality]) => {
  const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
  const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: "image/webp", quality })).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
"""


class Film:
    """Pictures of a page, taken until that is cancelled."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._taken: list[bytes] = []

    async def record(self) -> None:
        """Take screenshots until cancelled."""
        while True:
            await self.take()
            await asyncio.sleep(EVERY)

    async def take(self) -> None:
        """Take one screenshot."""
        self._taken.append(await self._page.screenshot())

    async def developed(self, browser: Browser) -> bytes:
        """Return the animation of all screenshots, without those that equal the previous one."""
        page = await browser.new_page()
        fresh = [one for before, one in zip([b"", *self._taken], self._taken, strict=False) if one != before]
        frames = []
        every = math.ceil(len(fresh) / MOST)
        for one in [*fresh[:-1:every], fresh[-1]]:
            encoded = await page.evaluate(_ENCODE, [base64.b64encode(one).decode(), QUALITY])
            frames.append(base64.b64decode(encoded))
        await page.close()
        viewport = self._page.viewport_size
        assert viewport is not None
        return animated(frames, viewport["width"], viewport["height"])


def animated(frames: list[bytes], width: int, height: int) -> bytes:
    """Join WebP images of one size into an animation that is repeated endlessly."""
    size = _three(width - 1) + _three(height - 1)
    chunks = [_chunk(b"VP8X", bytes([0x02, 0, 0, 0]) + size), _chunk(b"ANIM", struct.pack("<IH", 0xFFFFFFFF, 0))]
    for place, frame in enumerate(frames, start=1):
        shown = HELD if place == len(frames) else SHOWN
        chunks.append(_chunk(b"ANMF", _three(0) + _three(0) + size + _three(shown) + bytes([0x02]) + _image(frame)))
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _image(still: bytes) -> bytes:
    """Return the chunk with the image itself, without the others of the file."""
    at = 12
    while still[at : at + 4] != b"VP8 ":
        (length,) = struct.unpack_from("<I", still, at + 4)
        at += 8 + length + length % 2
    (length,) = struct.unpack_from("<I", still, at + 4)
    return still[at : at + 8 + length + length % 2]


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")
