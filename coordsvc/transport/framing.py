"""Frames on a stream of bytes: four bytes of length (big-endian), then that many bytes.

Rule of this file: never hold more than one allowed frame and what one read brought.
"""

from __future__ import annotations

from collections.abc import Sequence

LENGTH_BYTES = 4


class FrameTooLarge(Exception):  # noqa: N818 - says what came
    """A frame announced more bytes than are allowed, or none."""


def with_length(frame: bytes) -> bytes:
    return len(frame).to_bytes(LENGTH_BYTES, "big") + frame


def join_frames(frames: Sequence[bytes]) -> bytes:
    """Encode several frames for one write."""
    parts: list[bytes] = []
    for frame in frames:
        parts += (len(frame).to_bytes(LENGTH_BYTES, "big"), frame)
    return b"".join(parts)


class FrameReader:
    """Cuts a stream into frames."""

    __slots__ = ("_buffer", "_needed", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._needed = 0

    @property
    def buffered_bytes(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what one read brought; return the frames that are complete now.

        Raises:
            FrameTooLarge: A frame is empty or larger than allowed. The stream is of no use after that.
        """
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._needed:
                return []
            data = bytes(buffer)
            buffer.clear()
        frames: list[bytes] = []
        position, end = 0, len(data)
        self._needed = LENGTH_BYTES
        while end - position >= LENGTH_BYTES:
            start = position + LENGTH_BYTES
            length = int.from_bytes(data[position:start], "big")
            if not 0 < length <= self.frame_bytes_max:
                raise FrameTooLarge(
                    f"a frame of {length} bytes, where 1 to {self.frame_bytes_max} are allowed"
                )
            if start + length > end:
                self._needed = LENGTH_BYTES + length
                break
            frames.append(data[start : start + length])
            position = start + length
        if position < end:
            buffer += data[position:] if position else data
        return frames
