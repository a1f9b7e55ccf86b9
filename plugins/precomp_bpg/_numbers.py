"""BPG's byte-wise numbers."""

from precomp_sdk import BitstreamError

__all__ = ["read_ue7", "write_ue7"]


def read_ue7(data: bytes, offset: int, where: str) -> tuple[int, int]:
    """Read BPG's ue7(32): base 128, high groups first, the top bit set on all bytes but the last.

    Returns:
        The number, and the offset of what follows it.

    Raises:
        BitstreamError: it is not the shortest form, does not fit 32 bits, or is cut off.
    """
    value = 0
    for index in range(offset, min(offset + 5, len(data))):
        byte = data[index]
        if index == offset and byte == 0x80:
            break
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            if value >= 1 << 32:
                break
            return value, index + 1
    raise BitstreamError(
        where=where,
        expected="a number of at most 32 bits in BPG's shortest form",
        got=data[offset : offset + 5].hex(" ") or "the end of the file",
        remedy="The file is truncated or damaged; fetch it again.",
    )


def write_ue7(value: int) -> bytes:
    """Return ``value``, 0 to 2**32 - 1, as ue7(32)."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))
