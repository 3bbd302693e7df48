"""The operations on their way, and a random walk of them over a network that loses everything it can."""

from __future__ import annotations

import random
from collections import deque

import pytest

from coordclient.errors import ConnectionLostError, SessionExpiredError
from coordclient.pipeline import ConnectionUnusableError, Operation, Pipeline
from coordclient.states import State
from coordproto.v1 import coordination_pb2, data_pb2
from tests.unit.client.core_driver import FAR, CoreDriver


def write(value: bytes = b"") -> Operation:
    return Operation(FAR, write=data_pb2.Write(set=data_pb2.Set(path="/a", value=value)))


def read() -> Operation:
    return Operation(FAR, read=coordination_pb2.Read(get=data_pb2.Get(path="/a")))


def filled(pipeline: Pipeline) -> coordination_pb2.ClientFrame:
    frame = coordination_pb2.ClientFrame()
    pipeline.fill(frame)
    return frame


def test_a_probe_is_not_sent_again() -> None:
    pipeline = Pipeline()
    frame = coordination_pb2.ClientFrame()
    pipeline.add_probe(frame, coordination_pb2.Read(exists=data_pb2.Exists(path="/")))
    assert len(frame.reads) == 1
    pipeline.detached()

    assert len(filled(pipeline).reads) == 0
    assert not pipeline.is_owed


def test_a_read_that_nobody_wants_any_more_is_not_sent_again() -> None:
    pipeline = Pipeline()
    operations = [read(), read()]
    for operation in operations:
        pipeline.submit(operation)
    filled(pipeline)
    operations[0].is_settled = True
    pipeline.detached()

    assert [sent.id for sent in filled(pipeline).reads] == [operations[1].sequence]


def test_a_read_given_up_before_it_was_sent_again_is_forgotten() -> None:
    pipeline = Pipeline()
    operation = read()
    pipeline.submit(operation)
    filled(pipeline)
    pipeline.detached()
    operation.is_settled = True

    assert len(filled(pipeline).reads) == 0
    assert not pipeline.is_owed


def test_a_refusal_that_will_pass_keeps_the_write() -> None:
    pipeline = Pipeline()
    pipeline.submit(write())
    filled(pipeline)
    refusal = data_pb2.Error(code=data_pb2.NO_LEADER, message="no leader")
    with pytest.raises(ConnectionUnusableError, match="no leader"):
        pipeline.write_answered(data_pb2.WriteResult(sequence=1, error=refusal))

    assert pipeline.pending_count == 1
    assert pipeline.acknowledged_sequence == 0


def test_failing_everything_says_what_may_have_been_applied() -> None:
    pipeline = Pipeline()
    operations = [write(), read(), write()]
    for operation in operations[:2]:
        pipeline.submit(operation)
    filled(pipeline)
    pipeline.submit(operations[2])
    pipeline.fail_everything(ConnectionLostError, "gone")

    outcomes = [outcome for _, outcome in pipeline.completed]
    assert [isinstance(outcome, ConnectionLostError) for outcome in outcomes] == [True] * 3
    assert [getattr(outcome, "may_have_been_applied", None) for outcome in outcomes] == [True, False, False]
    assert (pipeline.pending_count, pipeline.last_sequence) == (0, 0)


# ---------------------------------------------------------------------------------------------
# A random walk


class ModelService:
    """What the service promises, in its simplest form: each write once, in order, repeats from a table."""

    def __init__(self) -> None:
        self.session_id = 1
        self.applied: list[bytes] = []
        self.in_session: list[bytes] = []

    def take(self, frame: coordination_pb2.ClientFrame) -> list[coordination_pb2.ServerItem]:
        items = []
        sequence = frame.first_sequence
        for message in frame.writes.writes:
            if sequence == len(self.in_session) + 1:
                self.in_session.append(message.set.value)
                self.applied.append(message.set.value)
            assert sequence <= len(self.in_session), "a gap between writes"
            assert self.in_session[sequence - 1] == message.set.value, "a number used twice"
            result = data_pb2.WriteResult(sequence=sequence, zxid=len(self.applied))
            items.append(coordination_pb2.ServerItem(write=result))
            sequence += 1
        for message_read in frame.reads:
            assert message_read.after_sequence <= len(self.in_session), "a read before its write"
            result_read = data_pb2.ReadResult(id=message_read.id, zxid=len(self.applied), synced=True)
            items.append(coordination_pb2.ServerItem(read=result_read))
        return items

    def expire(self) -> None:
        self.session_id += 1
        self.in_session = []


class Walk:
    """One random history: a client, the service, and a network between them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.client = CoreDriver()
        self.service = ModelService()
        self.frames: deque[coordination_pb2.ClientFrame] = deque()
        self.answers: deque[coordination_pb2.ServerItem] = deque()
        self.writes: list[Operation] = []
        self.reads: list[Operation] = []
        self.outcomes: dict[Operation, object] = {}

    def submit(self) -> None:
        for _ in range(self.dice.randrange(1, 5)):
            if self.dice.random() < 0.3:
                self.reads.append(self.client.submit_get())
            else:
                self.writes.append(self.client.submit_set(b"%d" % len(self.writes)))

    def send(self) -> None:
        data = self.client.core.take_frame(self.client.now)
        if data is not None:
            self.frames.append(coordination_pb2.ClientFrame.FromString(data))

    def arrive(self) -> None:
        if self.frames:
            self.answers.extend(self.service.take(self.frames.popleft()))

    def answer(self) -> None:
        if self.answers and self.client.core.is_attached:
            self.client.say_items([self.answers.popleft()])

    def disconnect(self) -> None:
        self.frames.clear()
        self.answers.clear()
        self.client.core.connection_lost()

    def connect(self) -> None:
        core = self.client.core
        if core.is_attached:
            return
        asked = self.client.begin_attach()
        if asked.session_id not in (0, self.service.session_id):
            error = data_pb2.Error(code=data_pb2.SESSION_EXPIRED, message="expired")
            self.client.say(error=error)
            return
        if asked.session_id == 0:
            self.service.expire()
        self.client.accept(session_id=self.service.session_id, last_sequence=len(self.service.in_session))

    def expire(self) -> None:
        if self.dice.random() < 0.1:
            self.service.expire()
            self.disconnect()

    def abandon(self) -> None:
        pending = [operation for operation in self.writes + self.reads if not operation.is_settled]
        if pending and self.dice.random() < 0.2:
            self.client.core.abandon(self.dice.choice(pending))

    def step(self) -> None:
        acts = [self.submit, self.send, self.arrive, self.answer, self.connect, self.abandon]
        rare = [self.disconnect, self.expire]
        self.dice.choice(acts * 4 + rare)()
        for operation, outcome in self.client.outcomes():
            assert operation not in self.outcomes, "answered twice"
            self.outcomes[operation] = outcome

    def finish(self) -> None:
        while not self.client.core.is_attached:
            self.connect()
        while self.client.core.pipeline.pending_count:
            self.send()
            self.arrive()
            self.answer()
        for operation, outcome in self.client.outcomes():
            self.outcomes[operation] = outcome


@pytest.mark.parametrize("seed", range(150))
def test_whatever_is_lost_each_write_is_applied_once_and_in_order(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(400):
        walk.step()
    walk.finish()

    applied = walk.service.applied
    assert len(applied) == len(set(applied)), "applied twice"
    assert applied == sorted(applied, key=int), "out of order"
    for operation in walk.writes:
        assert operation.write is not None
        value = operation.write.set.value
        outcome = walk.outcomes.get(operation)
        if isinstance(outcome, data_pb2.WriteResult):
            assert value in applied, "answered and not applied"
        elif isinstance(outcome, SessionExpiredError) and not outcome.may_have_been_applied:
            assert value not in applied, "said not to be applied"
        else:
            assert outcome is None or isinstance(outcome, SessionExpiredError)
            assert outcome is not None or operation.is_settled
    assert walk.client.core.state is State.CONNECTED
