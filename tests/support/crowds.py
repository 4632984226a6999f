"""Many processes that do the same thing at once, and what each of them answers."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from support.processes import REPOSITORY, clean_environment

# One process that has imported everything makes the others, so that they start together.
_LAUNCHER = """
import json, multiprocessing, sys
from danmpy.clock import wall_clock
from danmpy.db.engine import open_engine
from danmpy.errors import DanmpyError, ExhaustedError
from danmpy.ipam.leases import LeaseOwner, LeaseRequest, LeaseStore
from support.leasing import owner
from support.specs import DYNAMIC, network, tenant_key

url = sys.argv[1]
{work}
with multiprocessing.get_context("fork").Pool(int(sys.argv[2])) as workers:
    print(json.dumps(workers.map(work, range(int(sys.argv[3])), chunksize=1)))
"""


def answers_of_many(url: str, work: str, *, processes: int, turns: int) -> list[Any]:
    """What `work` answers: the source of a function ``work(number)``, called for `turns` numbers
    by `processes` processes, with the database at ``url`` and the names that are imported above.
    """
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCHER.replace("{work}", work), url, str(processes), str(turns)],
        capture_output=True,
        text=True,
        timeout=90,
        env=clean_environment({"PYTHONPATH": str(REPOSITORY / "tests")}),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers
