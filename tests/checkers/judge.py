"""All checkers over one history.

Rule of this file: the order is that of what a reader wants to know first; no checker is left out because
another has found something. A search that gave up has not passed.
"""

from __future__ import annotations

from tests.checkers import digests, locks, sessions, watches, zxid_order
from tests.checkers.history import History, Violation

CHECKS = (zxid_order.check, sessions.check, watches.check, locks.check, digests.check)


def judge(history: History) -> list[Violation]:
    """Return every violation that any checker of linear cost finds. The search is `linearizability.check`."""
    return [violation for check in CHECKS for violation in check(history)]
