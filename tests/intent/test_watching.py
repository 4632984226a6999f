from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import CapturingLogger

from danmpy.intent import watching
from danmpy.intent.watching import watch_folder


class Watch:
    """A watch in a thread, and how often it called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._called = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=watch_folder, args=(path, self._called.set, self._stop)
        )

    def start(self) -> None:
        self._thread.start()
        # Settled: the watch stands, and what it saw at its beginning has been told.
        time.sleep(0.6)
        self._called.clear()

    def told(self, seconds: float) -> float | None:
        """How long it took until the next call; None when there was none."""
        before = time.monotonic()
        if not self._called.wait(seconds):
            return None
        took = time.monotonic() - before
        time.sleep(0.2)
        self._called.clear()
        return took

    def stop(self) -> bool:
        self._stop.set()
        self._thread.join(5)
        return not self._thread.is_alive()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    (tmp_path / "intent").mkdir()
    made = Watch(tmp_path / "intent")
    made.start()
    yield made
    assert made.stop()


def test_a_change_is_told_at_once(watch: Watch) -> None:
    times = []
    for number in range(5):
        (watch.path / ".new").write_text(str(number))
        (watch.path / ".new").rename(watch.path / "a.yaml")
        took = watch.told(5)
        assert took is not None
        times.append(took)
    assert sorted(times)[2] < 0.1


def test_a_change_in_a_new_sub_folder_is_told(watch: Watch) -> None:
    (watch.path / "sub").mkdir()
    assert watch.told(5) is not None
    (watch.path / "sub" / "a.yaml").write_text("x")
    assert watch.told(5) is not None


def test_a_file_that_goes_is_told(watch: Watch) -> None:
    (watch.path / "a.yaml").write_text("x")
    assert watch.told(5) is not None
    (watch.path / "a.yaml").unlink()
    assert watch.told(5) is not None


def test_silence_is_silent(watch: Watch) -> None:
    assert watch.told(0.7) is None


def test_a_folder_that_goes_and_comes_back_is_watched_again(watch: Watch) -> None:
    shutil.rmtree(watch.path)
    assert watch.told(5) is not None
    time.sleep(0.3)
    watch.path.mkdir()
    assert watch.told(5) is not None
    time.sleep(0.5)
    watch.told(0.1)
    (watch.path / "a.yaml").write_text("x")
    assert watch.told(5) is not None


def test_a_folder_that_is_replaced_by_another_is_watched_again(watch: Watch) -> None:
    (watch.path.parent / "other").mkdir()
    (watch.path.parent / "other" / "b.yaml").write_text("x")
    watch.path.rename(watch.path.parent / "aside")
    (watch.path.parent / "other").rename(watch.path)
    assert watch.told(5) is not None
    time.sleep(0.5)
    watch.told(0.1)
    (watch.path / "b.yaml").write_text("y")
    assert watch.told(5) is not None


def test_a_folder_that_comes_late_is_watched(tmp_path: Path) -> None:
    late = Watch(tmp_path / "late")
    late.start()
    try:
        (tmp_path / "late").mkdir()
        assert late.told(5) is not None
    finally:
        assert late.stop()


def test_a_link_to_a_folder_is_followed_when_it_moves(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(name)
    (tmp_path / "intent").symlink_to("one")
    linked = Watch(tmp_path / "intent")
    linked.start()
    try:
        (tmp_path / "new").symlink_to("two")
        (tmp_path / "new").rename(tmp_path / "intent")
        assert linked.told(5) is not None
        time.sleep(0.5)
        linked.told(0.1)
        (tmp_path / "two" / "a.yaml").write_text("changed")
        assert linked.told(5) is not None
    finally:
        assert linked.stop()


def test_a_change_behind_a_link_that_inotify_cannot_see_is_told(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.yaml").write_text("x")
    (tmp_path / "intent").mkdir()
    (tmp_path / "intent" / "a.yaml").symlink_to("../elsewhere/a.yaml")
    linked = Watch(tmp_path / "intent")
    linked.start()
    try:
        (tmp_path / "elsewhere" / "a.yaml").write_text("changed")
        assert linked.told(5) is not None
    finally:
        assert linked.stop()


def test_without_inotify_the_folder_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_inotify(*_: object, **__: object) -> None:
        raise OSError(24, "inotify instance limit reached")

    logger = CapturingLogger()
    monkeypatch.setattr(watching, "_log", logger)
    monkeypatch.setattr(watching, "watch", no_inotify)
    polled = Watch(tmp_path)
    polled.start()
    try:
        (tmp_path / "a.yaml").write_text("x")
        assert polled.told(5) is not None
        time.sleep(1.1)
    finally:
        assert polled.stop()
    assert len(logger.calls) == 1  # and not one each second
