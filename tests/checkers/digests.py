"""Members: whoever has applied as much holds the same (G9).

Rule of this file: two members are compared only at the same applied index or the same zxid; a recorder that
waited until all have caught up compares all with all.
"""

from __future__ import annotations

from tests.checkers.history import History, MemberDigest, Violation


def check(history: History) -> list[Violation]:
    """Return each member that differs from the first one at the same place, or from the committed changes."""
    violations = []
    by_index: dict[int, MemberDigest] = {}
    by_zxid: dict[int, MemberDigest] = {}
    newest = history.committed[-1].zxid if history.committed else None
    for member in history.digests:
        at_index = by_index.setdefault(member.applied_index, member)
        at_zxid = by_zxid.setdefault(member.zxid, member)
        if newest is not None and member.zxid > newest:
            text = f"{member.member} is at zxid {member.zxid}; only {newest} transactions were committed"
            violations.append(Violation("G9", text, [member]))
        if at_index.zxid != member.zxid:
            text = f"{at_index.member} and {member.member} have both applied entry {member.applied_index}"
            text += f", and are at the zxids {at_index.zxid} and {member.zxid}"
            violations.append(Violation("G9", text, [at_index, member]))
        elif at_zxid.digest != member.digest:
            text = f"{at_zxid.member} and {member.member} differ at zxid {member.zxid}"
            text += f": digests {at_zxid.digest:#x} and {member.digest:#x}"
            violations.append(Violation("G9", text, [at_zxid, member]))
    return violations
