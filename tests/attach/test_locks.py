"""One operation a container at a time, GC alone."""

import threading

import pytest

from danmpy.attach.locks import WAIT_S, ContainerLocks
from danmpy.cni.shim import TIMEOUT_MS
from danmpy.errors import NotReadyError


def test_operations_of_one_container_wait_for_each_other() -> None:
    locks = ContainerLocks()
    entered = threading.Event()

    def second() -> None:
        with locks.container("a"):
            entered.set()

    with locks.container("a"):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(5)
    thread.join()


def test_operations_of_different_containers_run_together() -> None:
    locks = ContainerLocks()
    with locks.container("a"), locks.container("b"):
        pass


def test_gc_waits_for_running_operations_and_new_ones_wait_for_gc() -> None:
    locks = ContainerLocks()
    order: list[str] = []
    inside = threading.Event()

    def collect() -> None:
        inside.set()
        with locks.all():
            order.append("gc")

    def add() -> None:
        with locks.container("b"):
            order.append("add")

    with locks.container("a"):
        gc = threading.Thread(target=collect)
        gc.start()
        inside.wait(5)
        while not locks._exclusive:
            pass
        late = threading.Thread(target=add)
        late.start()
        order.append("first")
    gc.join(5)
    late.join(5)
    assert order == ["first", "gc", "add"]


def test_a_lock_that_is_busy_is_not_waited_for_when_only_tried() -> None:
    locks = ContainerLocks()
    with locks.container("a"):
        with locks.try_container("a") as free:
            assert not free
        with locks.try_container("b") as free:
            assert free
            with locks.try_container("b") as twice:
                assert not twice
    with locks.try_container("a") as free:
        assert free


def test_waiting_for_a_stuck_operation_ends_and_the_lock_works_afterwards() -> None:
    locks = ContainerLocks(wait_s=0.05)
    with locks.container("a"):
        with (
            pytest.raises(NotReadyError, match="container a is still under way"),
            locks.container("a"),
        ):
            pytest.fail("two at once")
        with pytest.raises(NotReadyError, match="operation of a container"), locks.all():
            pytest.fail("GC beside an operation")
        with locks.container("b"):
            pass
    with locks.all(), pytest.raises(NotReadyError), locks.all():
        pytest.fail("two GC at once")
    with locks.container("a"):
        pass


def test_a_daemon_that_waits_still_answers_before_the_shim_gives_up() -> None:
    assert WAIT_S < TIMEOUT_MS / 1000
