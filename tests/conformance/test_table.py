"""The table: what was found stands in it, and every cross has its note."""

from __future__ import annotations

from conformance.table import count, markdown, terminal
from conformance.verdicts import Outcome, Verdict

PASS = Verdict(outcome=Outcome.PASS)
VERDICTS = {
    "danmpy-native": {
        "del-twice": PASS,
        "del-stranger": Verdict(outcome=Outcome.FAIL, found="no | such thing"),
        "status-silent": PASS,
    },
    "bridge": {
        "del-twice": PASS,
        "error-version": Verdict(outcome=Outcome.FAIL, found="cniVersion None"),
        "status-silent": Verdict(outcome=Outcome.NOT_APPLICABLE, found="1.1.0 is not claimed"),
    },
}


def test_what_cannot_be_asked_is_not_counted() -> None:
    counts = {name: str(count(verdicts)) for name, verdicts in VERDICTS.items()}
    assert counts == {"danmpy-native": "2/3", "bridge": "1/2"}


def test_a_terminal_gets_one_line_for_each_check_that_was_asked() -> None:
    rows = {line[:76].strip(): line[76:].split() for line in terminal(VERDICTS)}
    assert rows == {
        "": ["danmpy-native", "bridge"],
        "an error object has the cniVersion of the configuration": [".", "FAIL"],
        "DEL twice succeeds": ["ok", "ok"],
        "DEL of what was never added succeeds": ["FAIL", "."],
        "STATUS succeeds and prints nothing": ["ok", "n/a"],
        "passed of asked": ["2/3", "1/2"],
    }


def test_the_document_has_a_note_for_every_cross() -> None:
    lines = list(markdown(VERDICTS))
    assert "| DEL twice succeeds | 2 DEL | ✓ | ✓ |" in lines
    assert "| DEL of what was never added succeeds | 2 DEL | ✗ 2 |  |" in lines
    assert "| STATUS succeeds and prints nothing | 2 STATUS | ✓ | n/a |" in lines
    assert lines[-2:] == [
        "1. the library of CNI 1.0 writes errors without cniVersion",
        "2. danmpy-native: no \\| such thing",
    ]


def test_the_document_says_which_plugins_were_not_asked_and_why() -> None:
    lines = list(markdown(VERDICTS, {"vrf": "needs x", "ipvlan": "needs y"}))
    said = "Not asked, for what the machine of this run lacks: ipvlan (needs y), vrf (needs x)."
    assert lines.index(said) < lines.index("| DEL twice succeeds | 2 DEL | ✓ | ✓ |")
    assert not [line for line in markdown(VERDICTS) if line.startswith("Not asked")]
