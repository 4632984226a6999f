"""The error family: what each edge makes of every member."""

from __future__ import annotations

import inspect

import pytest

from danmpy import errors
from danmpy.errors import (
    BugError,
    ConflictError,
    DanmpyError,
    ExhaustedError,
    IntentError,
    NotReadyError,
    StoreError,
    UnavailableError,
    WireError,
    cni_code_of,
)

RESERVED = set(range(12, 50)) | set(range(51, 100))
"""CNI spec 1.1.0, "Error": below 100 belongs to the specification; these it leaves undefined."""


FAMILY = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, DanmpyError) and found is not DanmpyError
]


@pytest.mark.parametrize("kind", FAMILY)
def test_every_error_says_object_fault_and_way_out_in_one_line(kind: type[DanmpyError]) -> None:
    error = kind("pool is full", hint="run the audit", subject="TenantNetwork/blue/a")
    assert str(error) == "TenantNetwork/blue/a: pool is full (run the audit)"
    assert (error.message, error.hint) == ("pool is full", "run the audit")


@pytest.mark.parametrize("kind", FAMILY)
def test_every_error_has_a_code_that_the_specification_allows(kind: type[DanmpyError]) -> None:
    error = kind("m", hint="h")
    assert cni_code_of(error) not in RESERVED
    assert error.exit_code in {1, 2, 3, 70}
    assert error.retry in {"never", "person", "later"}


@pytest.mark.parametrize("kind", FAMILY)
def test_no_error_can_be_made_without_a_hint(kind: type[DanmpyError]) -> None:
    with pytest.raises(TypeError, match="hint"):
        kind("message")  # type: ignore[call-arg]


def test_every_error_of_the_family_is_drawn_at_the_top_of_its_page() -> None:
    drawing = errors.__doc__ or ""
    assert [kind.__name__ for kind in FAMILY if f"+-- {kind.__name__} " not in drawing] == []


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (IntentError("m", hint="h"), 7, 2),
        (ConflictError("m", hint="h"), 7, 2),
        (ExhaustedError("m", hint="h"), 11, 1),
        (NotReadyError("m", hint="h"), 11, 1),
        (UnavailableError("m", hint="h"), 50, 1),
        (StoreError("m", hint="h"), 11, 3),
        (WireError("m", hint="h"), 4, 3),
        (WireError("m", hint="h", code=8), 8, 3),
        (BugError("m", hint="h"), 999, 70),
    ],
)
def test_codes_are_those_that_runtimes_and_scripts_rely_on(
    error: DanmpyError, code: int, exit_code: int
) -> None:
    assert (cni_code_of(error), error.exit_code) == (code, exit_code)


@pytest.mark.parametrize("kind", FAMILY)
def test_what_a_runtime_should_try_again_is_marked_for_later(kind: type[DanmpyError]) -> None:
    if kind.cni_code == 11:
        assert kind.retry == "later"
    if kind.retry == "person":
        assert kind.exit_code == 2
