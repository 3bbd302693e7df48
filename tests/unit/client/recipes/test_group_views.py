"""Views of a group: what was read and what was followed event by event come to the same."""

from __future__ import annotations

from coordclient import Event, EventType, Node, Stat
from coordclient.recipes.group_views import GroupState, GroupView, MemberTable, view_of

PATH = "/groups/workers"
OWNER = 17


def stat(czxid: int, mzxid: int = 0, *, pzxid: int = 0, owner: int = OWNER) -> Stat:
    mzxid = mzxid or czxid
    return Stat(czxid, mzxid, pzxid or czxid, 0, 0, 0, 0, 0, owner, 0, 0)


def group_node(pzxid: int) -> Stat:
    return stat(1, pzxid=pzxid, owner=0)


def member(name: str, czxid: int, mzxid: int = 0, value: bytes = b"", *, owner: int = OWNER) -> Node:
    return Node(f"{PATH}/{name}", value, stat(czxid, mzxid, owner=owner))


def event(kind: EventType, zxid: int, node: Node) -> Event:
    return Event(kind, node.path, zxid, node.value, node.stat)


def joined(node: Node) -> Event:
    return event(EventType.CREATED, node.stat.czxid, node)


def left(node: Node, zxid: int) -> Event:
    return event(EventType.DELETED, zxid, node)


def changed(node: Node) -> Event:
    return event(EventType.CHANGED, node.stat.mzxid, node)


def table(zxid: int, pzxid: int, *members: Node) -> MemberTable:
    made = MemberTable(PATH)
    made.reset(GroupState(zxid, group_node(pzxid), list(members)))
    return made


def seen(made: MemberTable) -> tuple[list[str], int]:
    view = made.view()
    return list(view.members), view.generation


def test_what_was_read_is_sorted_and_carries_the_last_change() -> None:
    state = GroupState(30, group_node(9), [member("b", 5, 12), member("a", 9), member("x", 7, owner=0)])
    view = view_of(state)

    assert list(view.members) == ["a", "b"]
    assert view.generation == 12
    assert "a" in view
    assert len(view) == 2
    assert view_of(GroupState(30, None, [])) == GroupView()


def test_joins_changes_and_leaves_are_followed() -> None:
    made = table(5, 5, member("a", 5))
    for news, expected in (
        (joined(member("c", 6)), (["a", "c"], 6)),
        (joined(member("b", 7)), (["a", "b", "c"], 7)),
        (changed(member("b", 7, 8, b"new")), (["a", "b", "c"], 8)),
        (left(member("a", 5), 9), (["b", "c"], 9)),
    ):
        assert made.apply(news)
        assert seen(made) == expected

    assert made.view().members["b"] == b"new"


def test_what_was_read_already_is_not_followed_again() -> None:
    """Events of before the read come after it: a join of one who has left, a leave of one who is back."""
    made = table(12, 10, member("back", 10, 14, b"newest"))
    for news in (
        joined(member("gone", 7)),
        left(member("back", 6), 9),
        changed(member("back", 10, 13, b"older")),
        changed(member("back", 6, 8, b"of its former life")),
    ):
        assert made.apply(news)

    assert seen(made) == (["back"], 14)
    assert made.view().members["back"] == b"newest"


def test_strangers_change_the_generation_and_nothing_else() -> None:
    """As they do for one who reads, who cannot tell which child came last."""
    made = table(5, 5, member("a", 5))
    made.apply(joined(member("stranger", 6, owner=0)))
    made.apply(changed(member("stranger", 6, 7, owner=0)))
    read = GroupState(9, group_node(6), [member("a", 5), member("stranger", 6, 7, owner=0)])

    assert made.view() == view_of(read)


def test_what_is_deeper_or_beside_does_not_count() -> None:
    made = table(5, 5, member("a", 5))
    for path in (f"{PATH}/a/b", "/groups/other", "/groups"):
        made.apply(Event(EventType.CREATED, path, 8, b"", stat(8)))

    assert seen(made) == (["a"], 5)


def test_a_group_that_is_made_anew_has_a_larger_generation() -> None:
    made = table(5, 5, member("a", 5))
    made.apply(left(member("a", 5), 6))
    made.apply(Event(EventType.DELETED, PATH, 7, b"", group_node(6)))
    assert made.is_empty
    made.reset(GroupState(8, None, []))
    assert seen(made) == ([], 0)
    made.apply(Event(EventType.CREATED, PATH, 9, b"", stat(9, owner=0)))
    made.apply(joined(member("a", 10)))

    assert seen(made) == (["a"], 10)


def test_a_gap_in_the_events_asks_for_a_read() -> None:
    assert not table(5, 5).apply(Event(EventType.RESYNC, PATH, 9))


def test_a_group_that_has_gone_unseen_does_not_keep_the_generation_of_its_members() -> None:
    """Another process has seen the members at that generation; what has happened since may come yet."""
    made = table(5, 5, member("a", 5))
    made.reset(GroupState(9, None, []))
    assert made.view() == view_of(GroupState(9, None, []))
    for news in (
        joined(member("a", 5)),
        left(member("a", 5), 6),
        Event(EventType.DELETED, PATH, 8, b"", group_node(6)),
    ):
        assert made.apply(news)
        assert seen(made) == ([], 0)
