"""Many processes that bind and release without pause, and what each of them was answered.

What was answered stands in a file a process, line by line, so that it survives a kill -9:
``held POD ADDRESS`` after a bind, ``letting POD`` before a release, ``gone POD`` after it, and
``away SECONDS CODE WORDS`` for a database that could not be used.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine, read
from danmpy.ipam.audit import Audit
from danmpy.ipam.sealing import Ledger
from support.processes import REPOSITORY, clean_environment

COOLDOWN = 1

_WORK = """
import os, random, signal, sys, time
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.errors import DanmpyError, ExhaustedError, StoreError
from danmpy.ipam.leases import LeaseRequest, LeaseStore
from support.leasing import owner
from support.specs import DYNAMIC, network, tenant_key

url, folder = sys.argv[1:3]
stop = os.path.join(folder, "stop")
nets = [network(tenant_key(name), v4="10.0.0.0/24", vni=700) for name in ("one", "two")]

def work(number, start):
    log = os.open(os.path.join(folder, f"{number}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def say(*words):
        os.write(log, (" ".join(map(str, words)) + "\\n").encode())
    store = LeaseStore(open_engine(url), wall_clock, 1)
    dice = random.Random()
    def until_done(do):
        while not os.path.exists(stop):
            began = time.monotonic()
            try:
                return do()
            except (StoreError, ExhaustedError) as error:
                kind = "away" if isinstance(error, StoreError) else "full"
                say(kind, round(time.monotonic() - began, 3), error.cni_code, error)
                time.sleep(0.05)
        return None
    mine, turn = [], start
    while not os.path.exists(stop):
        turn += 1
        pod = f"p{number}-{turn}"
        asked = [LeaseRequest(interface=f"n{i}", network=net, ip=DYNAMIC)
                 for i, net in enumerate(nets)]
        got = until_done(lambda: store.bind(owner(pod, node=f"n{number}"), asked))
        if got is None:
            break
        for lease in got:
            say("held", pod, lease.address.ip)
        mine.append(pod)
        while len(mine) > 2 or (mine and dice.random() < 0.4):
            gone = mine.pop(0)
            say("letting", gone)
            if until_done(lambda: store.release(f"container-{gone}")) is None:
                return
            say("gone", gone)

numbers = [int(word) for word in sys.argv[4:]]
for number in numbers:
    if os.fork() == 0:
        try:
            work(number, int(sys.argv[3]))
        except DanmpyError as error:
            print(number, error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
failed = 0
for _ in numbers:
    failed += os.wait()[1] not in (0, signal.SIGKILL)
sys.exit(failed)
"""


@dataclass(slots=True)
class Storm:
    """The processes of one test; `close` ends them."""

    url: str
    folder: Path
    numbers: range
    _launchers: list[subprocess.Popen[str]] = field(default_factory=list)
    _turn: int = 0

    def start(self, numbers: range | None = None) -> None:
        """Start one process a number."""
        wanted = self.numbers if numbers is None else numbers
        launcher = subprocess.Popen(
            [sys.executable, "-c", _WORK, self.url, str(self.folder), str(self._turn)]
            + [str(number) for number in wanted],
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment({"PYTHONPATH": str(REPOSITORY / "tests")}),
            start_new_session=True,
        )
        self._launchers.append(launcher)
        self._turn += 100_000

    def children(self) -> list[int]:
        """The processes that work now."""
        found: list[int] = []
        for launcher in self._launchers:
            with contextlib.suppress(OSError):
                path = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
                found += map(int, path.read_text().split())
        return found

    def kill_one(self, dice: random.Random) -> bool:
        """Kill -9 one of them, wherever it is just then."""
        children = self.children()
        if children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(children), signal.SIGKILL)
        return bool(children)

    def lines(self) -> list[list[str]]:
        """What each process has said so far, a line as its words."""
        logs = sorted(self.folder.glob("*.log"))
        return [line.split(" ", 3) for log in logs for line in log.read_text().splitlines()]

    def said(self, word: str) -> list[list[str]]:
        """The lines that begin with `word`."""
        return [line for line in self.lines() if line[0] == word]

    def wait_for_binds(self, count: int, seconds: float = 30) -> None:
        """Wait until so many more addresses were handed out."""
        goal = len(self.said("held")) + count
        deadline = time.monotonic() + seconds
        while len(self.said("held")) < goal:
            assert time.monotonic() < deadline, self.said("away")[-3:]
            time.sleep(0.05)

    def stop(self) -> None:
        """Let all of them end by themselves; a process that broke fails the test."""
        (self.folder / "stop").touch()
        for launcher in self._launchers:
            _, words = launcher.communicate(timeout=30)
            assert launcher.returncode == 0, words

    def close(self) -> None:
        """End what is left."""
        for launcher in self._launchers:
            if launcher.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(launcher.pid, signal.SIGKILL)
            launcher.communicate()

    def check(self) -> None:
        """Nothing that was answered is lost, no address is held twice, the ledger agrees."""
        engine = open_engine(self.url)
        try:
            with read(engine) as connection:
                rows = connection.execute(
                    text("SELECT pod, address_text FROM lease WHERE held_to IS NULL")
                ).all()
            there = {(row.pod, row.address_text) for row in rows}
            answered: set[tuple[str, str]] = set()
            over: set[str] = set()
            doubtful: set[str] = set()
            for line in self.lines():
                if line[0] == "held":
                    answered.add((line[1], line[2]))
                elif line[0] == "letting":
                    doubtful.add(line[1])
                elif line[0] == "gone":
                    over.add(line[1])
            must = {(pod, address) for pod, address in answered if pod not in doubtful}
            assert must <= there, f"answered and lost: {sorted(must - there)[:5]}"
            leaked = {(pod, address) for pod, address in there if pod in over}
            assert not leaked, f"released and still there: {sorted(leaked)[:5]}"
            assert Audit(engine, wall_clock).violations() == ()
            ledger = Ledger(engine, wall_clock)
            ledger.seal()
            report = ledger.verify()
            assert report.ok, str(report)
        finally:
            engine.dispose()
