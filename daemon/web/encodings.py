"""
Content-Encoding: a packed body, unpacked within bounds.

In:  the bytes of a body and its Content-Encoding. Out: the text that was packed, never larger than the limit.
"""

import zlib
from typing import Final

from starlette.exceptions import HTTPException

from relevanced.daemon.errors import BadInput

# A collector's usual limit for one export is 20 MB, and OpenSearch's advice for one bulk body 5 to 15 MB.
MAX_DOOR_BYTES: Final = 20_000_000

_WINDOW: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's wbits


def unpacked(body: bytes, encoding: str) -> bytes:
    """
    Unpack a body; it stops at the limit, so that a few kilobytes cannot fill the memory.

    Raises: HTTPException 415 for another encoding and 413 beyond MAX_DOOR_BYTES; BadInput for broken data.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW:
        raise HTTPException(415, "Send the body as it is, or with Content-Encoding gzip or deflate.")
    unpacker = zlib.decompressobj(_WINDOW[encoding])
    try:
        text = unpacker.decompress(body, MAX_DOOR_BYTES + 1)
    except zlib.error:
        raise BadInput(f"The body is no {encoding}.") from None
    if len(text) > MAX_DOOR_BYTES:
        raise HTTPException(413, f"The unpacked body is larger than {MAX_DOOR_BYTES:,} bytes; send it in parts.")
    if not unpacker.eof or unpacker.unused_data:
        raise BadInput(f"The body is no complete {encoding}.")
    return text
