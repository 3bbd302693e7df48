"""Each of some things needs a partner of its own: a maximum matching, by augmenting paths.

Rule of this file: it knows nothing of histories.
"""

from __future__ import annotations


def match_all(candidates: dict[int, list[int]]) -> list[int]:
    """Give every key a candidate of its own; return the keys for which there is none."""
    partners: dict[int, int] = {}  # by candidate: its key

    def place(key: int, tried: dict[int, None]) -> bool:
        for candidate in candidates[key]:
            if candidate in tried:
                continue
            tried[candidate] = None
            if candidate not in partners or place(partners[candidate], tried):
                partners[candidate] = key
                return True
        return False

    return [key for key in candidates if not place(key, {})]
