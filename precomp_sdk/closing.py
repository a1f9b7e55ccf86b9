"""What is closed when it is no longer needed."""

from types import TracebackType
from typing import Self

__all__ = ["Closing"]


class Closing:
    """Makes an object with a ``close`` a context manager."""

    def close(self) -> None:
        """Give back what is held; the default holds nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
