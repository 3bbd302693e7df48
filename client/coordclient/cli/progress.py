"""One line on a terminal that tells how far a command is, and is gone when it ends.

Rule of this file: only people on a terminal see it, on standard error; scripts and files never do.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final, Self

_CLEAR_LINE: Final = "\r\x1b[K"


class ProgressLine:
    def __init__(self) -> None:
        self.is_shown = sys.stderr.isatty()
        self._text = ""

    def show(self, text: str) -> None:
        if self.is_shown and text != self._text:
            self._text = text
            sys.stderr.write(_CLEAR_LINE + text)
            sys.stderr.flush()

    def clear(self) -> None:
        if self._text:
            self._text = ""
            sys.stderr.write(_CLEAR_LINE)
            sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
