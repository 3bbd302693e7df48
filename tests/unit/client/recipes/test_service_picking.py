"""Picking instances: shares, stickiness, and who is left out after failures. Pure: own clock, own dice."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from coordclient import Instance, InvalidArgumentError, NoInstanceError, Status
from coordclient.recipes.service_instances import Instances
from coordclient.recipes.service_picking import LEAST_PENDING, RANDOM, ROUND_ROBIN, STICKY, STRATEGIES, Picker

KEYS = [f"user-{number}" for number in range(400)]
WEIGHTS = st.lists(st.integers(1, 6), min_size=1, max_size=6)
FAILURE = ConnectionError("refused")


class Clock:
    """Time that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def instance(name: str, status: Status = Status.PASSING, *, weight: int = 1, token: int = 1) -> Instance:
    return Instance("api", name, "h", 1, status=status, weight=weight, token=token)


def picker(
    *instances: Instance,
    strategy: str = ROUND_ROBIN,
    eject_after: int = 3,
    eject_seconds: float = 10.0,
    clock: Clock | None = None,
    seed: int = 1,
) -> Picker:
    made = Picker(
        "api",
        strategy,
        eject_after=eject_after,
        eject_seconds=eject_seconds,
        now=clock or Clock(),
        dice=Random(seed),
    )
    made.take(Instances(instances))
    return made


def weighted(weights: list[int]) -> list[Instance]:
    return [instance(str(number), weight=weight) for number, weight in enumerate(weights)]


def picked(source: Picker, count: int) -> list[str]:
    return [source.pick("key").id for _ in range(count)]


# ---------------------------------------------------------------------------------------------
# Shares


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 100), st.integers(0, 2**32))
def test_round_robin_gives_each_its_exact_share_in_every_round(
    weights: list[int], offset: int, seed: int
) -> None:
    source = picker(*weighted(weights), seed=seed)
    picked(source, offset)

    shares = Counter(picked(source, sum(weights)))
    assert shares == {str(number): weight for number, weight in enumerate(weights)}


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**32))
def test_round_robin_among_equals_never_picks_one_twice_in_a_row(count: int, seed: int) -> None:
    order = picked(picker(*weighted([1] * count), seed=seed), 3 * count)

    assert all(one != other for one, other in pairwise(order))


def test_not_every_client_begins_with_the_same_instance() -> None:
    first = {picker(*weighted([1] * 4), seed=seed).pick().id for seed in range(50)}

    assert first == {"0", "1", "2", "3"}


def test_random_picks_go_by_weight() -> None:
    shares = Counter(picked(picker(*weighted([1, 3]), strategy=RANDOM), 4000))

    assert shares["1"] / shares["0"] == pytest.approx(3, rel=0.2)


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 2**32))
def test_least_pending_keeps_the_calls_per_weight_even(weights: list[int], seed: int) -> None:
    source = picker(*weighted(weights), strategy=LEAST_PENDING, seed=seed)
    under_way = Counter(source.begin().id for _ in range(3 * sum(weights)))

    assert under_way == {str(number): 3 * weight for number, weight in enumerate(weights)}


def test_least_pending_gives_idle_instances_their_share_of_calls_one_at_a_time() -> None:
    source = picker(*weighted([1, 1, 2]), strategy=LEAST_PENDING)
    calls = Counter[str]()
    for _ in range(4000):
        chosen = source.begin()
        calls[chosen.id] += 1
        source.end(chosen)

    assert calls["0"] == pytest.approx(1000, rel=0.2)
    assert calls["1"] == pytest.approx(1000, rel=0.2)
    assert calls["2"] == pytest.approx(2000, rel=0.2)


def test_least_pending_prefers_the_one_whose_calls_have_ended() -> None:
    source = picker(instance("a"), instance("b"), strategy=LEAST_PENDING)
    busy, idle = source.begin(), source.begin()
    source.end(idle)

    assert {busy.id, idle.id} == {"a", "b"}
    assert set(picked(source, 10)) == {idle.id}


# ---------------------------------------------------------------------------------------------
# Sticky


def placement(*instances: Instance) -> dict[str, str]:
    source = picker(*instances, strategy=STICKY)
    return {key: source.pick(key).id for key in KEYS}


@settings(deadline=None)
@given(st.sets(st.text("abcdef0123456789", min_size=1), min_size=1, max_size=8), st.data())
def test_only_the_keys_of_an_instance_that_goes_move(names: set[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(names)))
    assume(len(names) > 1)
    before = placement(*map(instance, sorted(names)))
    after = placement(*map(instance, sorted(names - {gone})))

    assert {key for key in KEYS if before[key] != after[key]} == {key for key in KEYS if before[key] == gone}


def test_keys_are_spread_by_weight() -> None:
    shares = Counter(placement(instance("a"), instance("b", weight=3)).values())

    assert shares["b"] / shares["a"] == pytest.approx(3, rel=0.3)


def test_another_client_and_a_later_life_of_the_instance_get_the_same_keys() -> None:
    assert placement(instance("a"), instance("b")) == placement(instance("b"), instance("a", token=9))


def test_keys_are_texts_or_bytes() -> None:
    source = picker(instance("a"), instance("b"), instance("c"), strategy=STICKY)

    assert all(source.pick(key) == source.pick(key.encode()) for key in KEYS)


def test_sticky_picking_without_a_key_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="needs a key"):
        picker(instance("a"), strategy=STICKY).pick()


# ---------------------------------------------------------------------------------------------
# Who can be picked


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_passing_instances_are_picked(strategy: str) -> None:
    source = picker(
        instance("a"),
        instance("b", Status.WARNING),
        instance("c", Status.CRITICAL),
        instance("d", Status.DRAINING),
        strategy=strategy,
    )

    assert set(picked(source, 20)) == {"a"}


def test_a_warning_is_better_than_nothing() -> None:
    source = picker(instance("b", Status.WARNING), instance("c", Status.CRITICAL))

    assert set(picked(source, 5)) == {"b"}


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (Instances(), "nobody is registered"),
        (Instances(is_stale=True), r"nobody is registered \(as far as is known\)"),
        (
            Instances([instance("a", Status.CRITICAL), instance("b", Status.DRAINING)]),
            "1 critical, 1 draining",
        ),
    ],
)
def test_why_nobody_can_be_picked_is_said(view: Instances, why: str) -> None:
    source = picker()
    source.take(view)

    with pytest.raises(NoInstanceError, match=f"'api' can be used: {why}") as caught:
        source.pick()
    assert caught.value.name == "api"
    with pytest.raises(NoInstanceError):
        source.check()


def test_a_new_view_counts_at_once() -> None:
    source = picker(instance("a"))
    source.take(Instances([instance("a", Status.DRAINING), instance("b")]))

    assert set(picked(source, 5)) == {"b"}


@pytest.mark.parametrize(
    "wrong",
    [{"strategy": "best"}, {"eject_after": 0}, {"eject_seconds": -1.0}, {"eject_seconds": float("inf")}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgumentError):
        picker(**wrong)  # type: ignore[arg-type]  # that is what is tested


# ---------------------------------------------------------------------------------------------
# Leaving out who fails


def fail(source: Picker, one: Instance, times: int = 1) -> None:
    for _ in range(times):
        source.report(one, FAILURE)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_that_fails_in_a_row_is_left_out_for_a_while(strategy: str) -> None:
    clock = Clock()
    bad, good = instance("bad"), instance("good")
    source = picker(bad, good, strategy=strategy, clock=clock)
    fail(source, bad, 2)
    assert source.ejected() == ()
    fail(source, bad)
    assert source.ejected() == (bad,)
    assert {source.pick(key).id for key in KEYS} == {"good"}
    clock.now += 10

    assert source.ejected() == ()
    assert "bad" in {source.begin(key).id for key in KEYS}


def test_a_success_in_between_counts() -> None:
    bad = instance("bad")
    source = picker(bad, instance("good"))
    for _ in range(5):
        fail(source, bad, 2)
        source.report(bad)

    assert source.ejected() == ()


def test_who_fails_again_at_once_is_left_out_longer_up_to_a_limit() -> None:
    clock = Clock()
    bad = instance("bad")
    source = picker(bad, instance("good"), clock=clock, eject_seconds=1)
    fail(source, bad, 3)
    for seconds in (1, 2, 4, 8, 16, 32, 32, 32):
        clock.now += seconds - 0.5
        assert source.ejected() == (bad,)
        clock.now += 0.5
        assert source.ejected() == ()
        fail(source, bad)
    clock.now += 32
    source.report(bad)
    fail(source, bad, 2)
    assert source.ejected() == ()
    fail(source, bad)
    clock.now += 1
    assert source.ejected() == ()


def test_failures_of_calls_from_before_it_was_left_out_do_not_count_again() -> None:
    clock = Clock()
    bad = instance("bad")
    source = picker(bad, instance("good"), clock=clock)
    fail(source, bad, 20)
    clock.now += 10

    assert source.ejected() == ()


def test_if_all_fail_none_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    one, other = instance("one"), instance("other")
    source = picker(one, other)
    fail(source, one, 3)
    before = picked(source, 4), source.is_panicking
    fail(source, other, 3)
    during = sorted(picked(source, 4)), source.is_panicking
    assert sum("none is left out" in record.message for record in caplog.records) == 1
    source.report(one)
    after = picked(source, 4), source.is_panicking

    assert before == (["other"] * 4, False)
    assert during == (["one", "one", "other", "other"], True)
    assert after == (["one"] * 4, False)


def test_a_warning_is_better_than_one_that_fails() -> None:
    bad = instance("bad")
    source = picker(bad, instance("so-so", Status.WARNING))
    fail(source, bad, 3)

    assert set(picked(source, 4)) == {"so-so"}


def test_another_life_of_an_instance_begins_without_blame() -> None:
    bad = instance("bad", token=1)
    source = picker(bad, instance("good"))
    fail(source, bad, 3)
    source.take(Instances([instance("bad", token=2), instance("good")]))
    assert source.ejected() == ()
    fail(source, bad, 3)  # Calls to its former life.

    assert source.ejected() == ()


def test_what_is_known_survives_a_change_of_the_instance() -> None:
    bad = instance("bad")
    source = picker(bad, instance("good"))
    fail(source, bad, 3)
    changed = instance("bad", weight=5)
    source.take(Instances([changed, instance("good")]))

    assert source.ejected() == (changed,)


def test_a_call_to_one_who_has_gone_may_still_end() -> None:
    source = picker(instance("a"), strategy=LEAST_PENDING)
    gone = source.begin()
    source.take(Instances([instance("b")]))
    source.end(gone)
    source.report(gone, FAILURE)

    assert source.pick().id == "b"


STEPS = st.lists(
    st.one_of(
        st.dictionaries(st.sampled_from("abcd"), st.sampled_from(list(Status))),  # a new view
        st.tuples(st.sampled_from("abcd"), st.booleans()),  # a call has failed, or has not
        st.floats(0, 40),  # so many seconds pass
    ),
    max_size=40,
)


@settings(deadline=None)
@given(st.sampled_from(STRATEGIES), STEPS)
def test_whatever_happens_the_best_that_there_are_are_picked(
    strategy: str, steps: list[dict[str, Status] | tuple[str, bool] | float]
) -> None:
    clock = Clock()
    source = picker(strategy=strategy, clock=clock, eject_after=2)
    for step in steps:
        if isinstance(step, dict):
            source.take(Instances(instance(name, status) for name, status in sorted(step.items())))
        elif isinstance(step, tuple):
            source.report(instance(step[0]), None if step[1] else FAILURE)
        else:
            clock.now += step
        assert_best_is_picked(source)


def assert_best_is_picked(source: Picker) -> None:
    usable = [each for each in source.instances if each.status in (Status.PASSING, Status.WARNING)]
    healthy = [each for each in usable if each not in source.ejected()]
    passing = [each for each in healthy if each.status is Status.PASSING]
    if not usable:
        with pytest.raises(NoInstanceError):
            source.pick("key")
        return
    assert source.pick("key") in (passing or healthy or usable)
    assert source.is_panicking is (not healthy)
