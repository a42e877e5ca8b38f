"""Claiming and collecting at the same time: every order of their requests leaves what somebody relies on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lathe.type.v1.digest_pb2 import Digest

from services.platform.errors import LatheError
from services.storage import claims as claims_module
from services.storage.bucket import Stat
from services.storage.claims import FRESH, GATE_LIFETIME, Claims
from services.storage.hashing import hash_bytes
from services.storage.keys import GATES, claim_key, content_key
from services.storage.removal import Removal

BYTES = b"what two tasks make at the same time"
DIGEST = hash_bytes(BYTES)
SHARD = DIGEST.sha256[:2]
GRACE = timedelta(hours=24)
STEP = 20.0
"""Seconds that a request takes; a gate lives for 45 of them."""


class AwayError(Exception):
    """The store did not answer."""


@dataclass
class Store:
    """A bucket in memory with a clock of its own: key → (bytes, when they came)."""

    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    now: float = 1e6

    def old(self) -> None:
        self.objects[content_key(DIGEST)] = (BYTES, 0.0)

    @property
    def has(self) -> bool:
        return content_key(DIGEST) in self.objects


class View:
    """What one process sees of a store: each request waits until `step` lets it happen."""

    def __init__(self, store: Store, step: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._step = step
        self.lost: Callable[[str], bool] = lambda _key: False

    def stat(self, key: str) -> Stat | None:
        self._step()
        found = self._store.objects.get(key)
        return None if found is None else Stat(len(found[0]), self._store.now - found[1])

    def size(self, key: str) -> int | None:
        found = self.stat(key)
        return None if found is None else found.size

    def put(self, key: str, body: bytes, _digest: Digest) -> None:
        self._step()
        self._store.objects[key] = (body, self._store.now)

    def objects(self, prefix: str) -> Iterator[Any]:
        self._step()
        found = sorted(key for key in self._store.objects if key.startswith(prefix))
        return iter([SimpleNamespace(object_name=key, last_modified=datetime.fromtimestamp(0, UTC)) for key in found])

    def remove_once(self, key: str) -> None:
        self._step()
        if self.lost(key):
            raise AwayError
        self._store.objects.pop(key, None)


class Race:
    """Lets processes send their requests in a given order, one at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._turn = threading.Condition()
        self._waiting: list[int] = []
        self._may = -1
        self._threads: list[threading.Thread] = []
        self._ended: set[int] = set()
        self.results: dict[int, Any] = {}

    def add(self, work: Callable[[View], Any], lost: Callable[[str], bool] | None = None) -> None:
        me = len(self._threads)
        view = View(self.store, lambda: self._wait(me))
        view.lost = lost or view.lost

        def run() -> None:
            try:
                self.results[me] = work(view)
            except (AwayError, LatheError) as error:
                self.results[me] = error
            with self._turn:
                self._ended.add(me)
                self._turn.notify_all()

        self._threads.append(threading.Thread(target=run, daemon=True))

    def run(self, order: list[int], also: Callable[[int], None] = lambda _step: None) -> None:
        for thread in self._threads:
            thread.start()
        step = 0
        while len(self._ended) < len(self._threads):
            with self._turn:
                self._turn.wait_for(lambda: len(self._waiting) + len(self._ended) == len(self._threads), timeout=30)
                if not self._waiting:
                    continue
                wanted = order[step] if step < len(order) else step
                self._may = sorted(self._waiting)[wanted % len(self._waiting)]
                self._waiting.remove(self._may)
                self.store.now += STEP
                also(step)
                step += 1
                self._turn.notify_all()

    def _wait(self, me: int) -> None:
        with self._turn:
            self._waiting.append(me)
            self._turn.notify_all()
            assert self._turn.wait_for(lambda: self._may == me, timeout=30)
            self._may = -1


def find(view: View) -> bool:
    """Find bytes, as whoever refers to what is stored."""
    return Claims(view).take(DIGEST)  # type: ignore[arg-type]  # as much of a bucket as it needs


def put(view: View) -> bool:
    """Store bytes, as a worker does: nothing is sent if they are there."""
    if not Claims(view).take(DIGEST):  # type: ignore[arg-type]
        view.put(content_key(DIGEST), BYTES, DIGEST)
    return True


def collect(view: View) -> set[str]:
    """Remove what was found to have no reference."""
    return Removal(view).remove([DIGEST.sha256], GRACE)  # type: ignore[arg-type]


@pytest.fixture(autouse=True, scope="module")
def _no_pauses() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims_module, "_PAUSE_SECONDS", 0.0)
        yield


@settings(max_examples=150)
@given(st.lists(st.integers(0, 5), max_size=40), st.sampled_from([(find,), (put,), (put, find), (put, put)]))
def test_what_was_found_or_stored_is_there_afterwards(order: list[int], writers: tuple[Any, ...]) -> None:
    store = Store()
    store.old()
    race = Race(store)
    for work in (collect, *writers):
        race.add(work)
    race.run(order)
    if any(race.results[number] is True for number in range(1, len(writers) + 1)):
        assert store.has, race.results
    assert not [key for key in store.objects if key.startswith(GATES)]


@settings(max_examples=100)
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 30), st.sampled_from([find, put]))
def test_a_removal_that_comes_to_effect_later_takes_nothing_that_was_promised(
    order: list[int], late: int, work: Any
) -> None:
    """The collector loses the answer, and the store removes some time later, within the life of the gate."""
    store = Store()
    store.old()
    race, sent = Race(store), []

    def lost(key: str) -> bool:
        if key == content_key(DIGEST):
            sent.append(key)
        return key == content_key(DIGEST)

    def also(step: int) -> None:
        if sent and sent[0] in store.objects and step >= late:
            del store.objects[sent.pop()]

    race.add(collect, lost)
    race.add(work)
    race.run(order, also)
    if race.results[1] is True:
        assert store.has
        assert not sent, "the bytes were promised while their removal was on its way"


@settings(max_examples=100)
@given(st.lists(st.integers(0, 5), max_size=30), st.booleans())
def test_a_claim_that_was_renewed_while_old_ones_went_holds(order: list[int], other: bool) -> None:
    store = Store()
    store.old()
    store.objects[claim_key(DIGEST.sha256)] = (b"", 0.0)
    race = Race(store)
    race.add(lambda view: Removal(view).forget_claims(GRACE))  # type: ignore[arg-type]
    race.add(find)
    if other:
        race.add(collect)
    race.run(order)
    if race.results[1] is True:
        assert collect(View(store)) == set()
        assert store.has


def test_a_claim_spares_until_a_grace_has_passed() -> None:
    store = Store()
    store.old()
    assert find(View(store))
    assert collect(View(store)) == set()
    store.now += GRACE.total_seconds() + 1
    assert collect(View(store)) == {DIGEST.sha256}
    assert store.objects == {}


def test_new_bytes_need_no_claim_and_are_spared() -> None:
    store = Store()
    put(View(store))
    store.now += FRESH.total_seconds() - 1
    assert find(View(store))
    assert list(store.objects) == [content_key(DIGEST)]
    assert collect(View(store)) == set()


def test_a_process_claims_once_in_a_while() -> None:
    store = Store()
    store.old()
    claims = Claims(View(store))  # type: ignore[arg-type]
    assert claims.take(DIGEST)
    store.now += 60
    first = store.objects[claim_key(DIGEST.sha256)]
    assert claims.take(DIGEST)
    assert store.objects[claim_key(DIGEST.sha256)] == first


def test_a_gate_that_was_left_closed_opens_by_itself_and_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    store.old()
    gate = f"{GATES}{SHARD}/dead"
    store.objects[gate] = (b"", store.now)
    monkeypatch.setattr(claims_module, "_PATIENCE_SECONDS", 0.0)
    with pytest.raises(LatheError, match="Try again in a minute"):
        find(View(store))
    store.now += GATE_LIFETIME.total_seconds() + 1
    assert find(View(store))
    store.now += GATE_LIFETIME.total_seconds()
    Removal(View(store)).forget_claims(GRACE)  # type: ignore[arg-type]
    assert gate not in store.objects


def test_old_claims_are_forgotten_and_young_ones_kept() -> None:
    store = Store()
    store.old()
    find(View(store))
    removal = Removal(View(store))  # type: ignore[arg-type]
    assert removal.forget_claims(GRACE) == 0
    store.now += GRACE.total_seconds() + 1
    assert removal.forget_claims(GRACE) == 1
    assert list(store.objects) == [content_key(DIGEST)]
