"""What the daemon leaves for commands that only preview."""

from __future__ import annotations

from pathlib import Path

from danmpy.kernel.hostlinks import RemoveLink
from danmpy.netwatcher.mirror import Mirror, Refusal, read_refusals
from danmpy.netwatcher.values import LookReport, Reason, Step, StepFailure

FAILED = StepFailure(
    step=Step(device="ens4.7", reason="gone", change=RemoveLink(name="ens4.7")),
    reason=Reason.KERNEL_MODULE_MISSING,
    message="Unknown device type (modprobe 8021q)",
)


def test_a_refusal_reaches_the_reader_with_the_kernels_words_and_the_time(tmp_path: Path) -> None:
    path = tmp_path / "refusals.json"
    Mirror(path).write(LookReport(at=1_000_000, failures=(FAILED,)))
    assert read_refusals(path) == {
        "ens4.7": Refusal(
            reason="KernelModuleMissing",
            message="Unknown device type (modprobe 8021q)",
            at="1970-01-01T00:00:01.000000Z",
        )
    }


def test_a_look_without_a_refusal_takes_the_old_one_away(tmp_path: Path) -> None:
    path = tmp_path / "refusals.json"
    mirror = Mirror(path)
    mirror.write(LookReport(at=1, failures=(FAILED,)))
    mirror.write(LookReport(at=2))
    assert read_refusals(path) == {}


def test_looks_that_say_the_same_do_not_write_again(tmp_path: Path) -> None:
    path = tmp_path / "refusals.json"
    mirror = Mirror(path)
    mirror.write(LookReport(at=1, failures=(FAILED,)))
    path.unlink()
    mirror.write(LookReport(at=2, failures=(FAILED,)))
    assert not path.exists()


def test_a_missing_or_broken_file_tells_nothing_and_an_unwritable_one_hurts_nobody(
    tmp_path: Path,
) -> None:
    assert read_refusals(tmp_path / "none.json") == {}
    (tmp_path / "bad.json").write_text("[1]")
    assert read_refusals(tmp_path / "bad.json") == {}
    Mirror(tmp_path / "missing" / "refusals.json").write(LookReport(at=1, failures=(FAILED,)))
