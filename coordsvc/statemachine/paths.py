"""The grammar of paths: ZooKeeper's, opened to all letters, emoji and private use characters.

Rule of this file: text in, text or a verdict out; it knows no tree. Reference: PathUtils.validatePath.
"""

from __future__ import annotations

import re

ROOT = "/"

# Control characters, surrogates (no characters at all) and the two non-characters that editors mangle.
_FORBIDDEN = "\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufffe\\uffff"
_VALID = re.compile(rf"(?:/(?!\.\.?(?:/|\Z))[^/{_FORBIDDEN}]+)+\Z")
_FORBIDDEN_CHARACTER = re.compile(f"[{_FORBIDDEN}]")

_CHARACTER_BYTES_MAX = 4  # of one character in UTF-8


def explain_invalid(path: str, path_bytes_max: int) -> str | None:
    """Return what is wrong with `path`, or None if it is a legal path of a node."""
    if _VALID.match(path) or path == ROOT:
        if len(path) * _CHARACTER_BYTES_MAX <= path_bytes_max:
            return None
        size = len(path.encode())
        return (
            None
            if size <= path_bytes_max
            else f"it is {size} bytes long, and at most {path_bytes_max} are allowed"
        )
    return _explain(path)


def _explain(path: str) -> str:
    """Name the first rule that `path` breaks, in ZooKeeper's order."""
    if not path:
        return "it is empty"
    if not path.startswith("/"):
        return "it must start with '/'"
    if path.endswith("/"):
        return "it must not end with '/'"
    forbidden = _FORBIDDEN_CHARACTER.search(path)
    if forbidden is not None:
        return f"character U+{ord(forbidden.group()):04X} at position {forbidden.start()} is not allowed"
    if "//" in path:
        return "it has an empty name ('//')"
    return "'.' and '..' are not allowed as names"


def parent_of(path: str) -> str:
    """Return the path before the last slash; the root for top-level nodes. `path` must hold a slash."""
    return path[: path.rindex("/")] or ROOT


def child_of(parent: str, name: str) -> str:
    """Return the path of the child `name` of `parent`."""
    return f"{parent}/{name}" if parent != ROOT else ROOT + name


def ancestors_of(path: str) -> list[str]:
    """Return all proper ancestors but the root, from the top down."""
    found = []
    slash = path.find("/", 1)
    while slash > 0:
        found.append(path[:slash])
        slash = path.find("/", slash + 1)
    return found


def sequential(prefix: str, number: int) -> str:
    """Return `prefix` with its number: ten digits, more when they no longer do. ZooKeeper's format."""
    return f"{prefix}{number:010d}"


def clip(text: str, length_max: int = 256) -> str:
    """Shorten text from outside for a message: what clients send must not grow what we record."""
    return text if len(text) <= length_max else text[:length_max] + "..."
