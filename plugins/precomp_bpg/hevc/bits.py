"""Bits and Exp-Golomb codes, read and written most significant bit first.

Ours, because the package has to know what stands in a stranger's few header bytes and refuse the rest: general bit
libraries have no Exp-Golomb limit of H.265 and no `BitstreamError`.
"""

from precomp_sdk import BitstreamError

__all__ = ["BitReader", "BitWriter"]

_LONGEST_UE = 32  # leading zeros of the longest ue(v) that H.265 allows


class BitReader:
    """Reads bits from the front of ``data``.

    Args:
        data: the bytes, without emulation prevention.
        where: names the structure in errors.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)
        self.where = where

    @property
    def left(self) -> int:
        """Number of bits not yet read."""
        return self._left

    def u(self, bits: int) -> int:
        """Read an unsigned number of ``bits`` bits.

        Raises:
            BitstreamError: the data ends before it.
        """
        if bits > self._left:
            raise BitstreamError(
                where=self.where,
                expected=f"{bits} more bits",
                got=f"{self._left}, then the end of the data",
                remedy="The file is truncated or damaged; fetch it again.",
            )
        self._left -= bits
        return (self._value >> self._left) & ((1 << bits) - 1)

    def flag(self) -> bool:
        """Read one bit."""
        return bool(self.u(1))

    def ue(self) -> int:
        """Read an unsigned Exp-Golomb code.

        Raises:
            BitstreamError: it has more than 32 leading zeros, or the data ends before it.

        Source:
            ITU-T H.265, 9.2.
        """
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > _LONGEST_UE:
                raise BitstreamError(
                    where=self.where,
                    expected=f"an Exp-Golomb code of at most {_LONGEST_UE} leading zeros",
                    got="a longer one",
                    remedy="The file is damaged; fetch it again.",
                )
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Read a signed Exp-Golomb code."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


class BitWriter:
    """Collects bits and returns them as bytes."""

    def __init__(self) -> None:
        self._value = 0
        self._length = 0

    def u(self, bits: int, value: int) -> None:
        """Append an unsigned number of ``bits`` bits."""
        self._value = self._value << bits | value
        self._length += bits

    def flag(self, value: bool) -> None:
        """Append one bit."""
        self.u(1, int(value))

    def ue(self, value: int) -> None:
        """Append an unsigned Exp-Golomb code."""
        length = (value + 1).bit_length()
        self.u(2 * length - 1, value + 1)

    def zero_padded(self) -> bytes:
        """Return the bits, filled up with zeros to whole bytes."""
        padding = -self._length % 8
        return (self._value << padding).to_bytes((self._length + padding) // 8)

    def rbsp(self) -> bytes:
        """Return the bits with the stop bit of an RBSP, filled up with zeros to whole bytes."""
        whole = BitWriter()
        whole.u(self._length, self._value)
        whole.u(1, 1)
        return whole.zero_padded()
