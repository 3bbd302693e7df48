"""A name that is used again: a voter is replaced while another sleeps, and its machine, wiped, joins anew.

The sleeper wakes up in one half of a split network with that machine, whose name is to it that of a voter. If
the newcomer stood in for the disk that had its name before, the two would be a majority that nobody else
knows of.

Rule of this file: it does what the operators' manual allows; the network and a crash do the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordsvc.replica.changes import ChangeRequest, JoinMember, ReplaceMember
from tests.simulation.opening import client_address, peer_address
from tests.simulation.plan import Fault
from tests.simulation.world import MILLISECOND

if TYPE_CHECKING:
    from tests.simulation.operators import Operators

_TRY_AGAIN_NS = 200 * MILLISECOND


def use_name_again(operators: Operators, fault: Fault) -> None:
    """Begin as soon as all voters are up and two of them can be spared."""
    if operators.is_over:
        return
    configuration = operators.newest_configuration()
    leader = operators.leader()
    others = [name for name in configuration.voters if leader is not None and name != leader.name]
    is_whole = all(operators.members[name].is_up for name in configuration.voters)
    if len(others) < 2 or not is_whole or configuration.voters_outgoing:
        operators.world.at(_TRY_AGAIN_NS, lambda: use_name_again(operators, fault))
        return
    first = fault.amount % len(others)
    reuse = _Reuse(operators, fault, others[first], others[(first + 1) % len(others)])
    operators.count("use_again")
    operators.members[reuse.sleeper].crash(loses_power=fault.is_total)
    operators.join(reuse.replace)


class _Reuse:
    def __init__(self, operators: Operators, fault: Fault, name: str, sleeper: str) -> None:
        self.operators = operators
        self.fault = fault
        self.name = name
        self.sleeper = sleeper

    def replace(self, by: str) -> None:
        self.operators.ask(ReplaceMember(self.name, by), force=False, done=self._wipe)

    def _wipe(self, request: ChangeRequest) -> None:
        """The member has left; its machine gets an empty disk, and asks to join under its old name."""
        if request.outcome is None:
            self._wake()
            return
        member = self.operators.members[self.name]
        member.crash(loses_power=True)
        member.is_retired = True
        member.wipe()
        address = peer_address(self.name)
        change = JoinMember(self.name, address, client_address(self.name), member.disk.member_id)
        self.operators.ask(change, force=False, done=self._joined)

    def _joined(self, request: ChangeRequest) -> None:
        if request.outcome is None or self.operators.is_over:
            self._wake()
            return
        operators, member = self.operators, self.operators.members[self.name]
        island = (self.name, self.sleeper)
        rest = [name for name in operators.members if name not in island]
        pairs = [pair for one in island for other in rest for pair in ((one, other), (other, one))]
        member.network.cut(pairs)
        heal = operators.undo_at_the_end(lambda: member.network.uncut(pairs))
        operators.world.at(self.fault.duration_ms * MILLISECOND, heal)
        operators.started_after_joining(member, request)
        member.ledger.probes.hit("a name was used again for an empty disk")
        self._wake()

    def _wake(self) -> None:
        sleeper = self.operators.members[self.sleeper]
        if not sleeper.is_up and not sleeper.is_retired and not self.operators.is_over:
            sleeper.start()


def once(action: Callable[[], None]) -> Callable[[], None]:
    """Return `action`, which is carried out by the first call only."""
    left = [action]

    def act() -> None:
        if left:
            left.pop()()

    return act
