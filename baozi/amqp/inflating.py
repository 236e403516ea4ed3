"""Decompresses message bodies up to a limit: a kilobyte may contain a gigabyte."""

import bz2
import lzma
import zlib
from collections.abc import Callable

#: The most bytes of a decompressed body. A tray of 10,000 baozi has about 200,000.
LONGEST = 1_000_000
#: Bytes of memory that lzma may use: the highest of its presets needs 65 MiB.
_LZMA_MEMORY = 80 << 20

#: The compressions of Celery's clients, by their names in the ``compression`` header.
_INFLATE: dict[str, Callable[[bytes], bytes]] = {
    **dict.fromkeys(
        ("application/x-gzip", "gzip", "zlib"),
        lambda body: zlib.decompressobj().decompress(body, LONGEST + 1),
    ),
    **dict.fromkeys(
        ("application/x-bz2", "bzip2", "bzip"),
        lambda body: bz2.BZ2Decompressor().decompress(body, LONGEST + 1),
    ),
    **dict.fromkeys(
        ("application/x-lzma", "lzma", "xz"),
        lambda body: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY).decompress(body, LONGEST + 1),
    ),
}


def inflated(body: bytes, compression: object) -> bytes:
    """Return ``body`` decompressed.

    Args:
        body: the body as received.
        compression: the value of the ``compression`` header, of any type.

    Raises:
        ValueError: the compression is unknown, the body is damaged, or it has more than ``LONGEST`` bytes.
    """
    inflate = _INFLATE.get(compression) if isinstance(compression, str) else None
    if inflate is None:
        raise ValueError(f"unknown compression {compression!r:.100}")
    try:
        whole = inflate(body)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"damaged: {error}") from None
    if len(whole) > LONGEST:
        raise ValueError(f"more than {LONGEST} bytes when inflated")
    return whole
