"""One operation a container at a time, GC alone."""

import threading

from danmpy.attach.locks import ContainerLocks


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
