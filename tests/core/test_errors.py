"""The exceptions: one tree, fields instead of text to parse, exit codes of the reference."""

from __future__ import annotations

import pickle

import pytest

from endtask import errors
from endtask.errors import (
    AccessDeniedError,
    AmbiguousError,
    EndtaskError,
    GoneError,
    NothingMatchedError,
    OsCallError,
    PlanError,
    RefusedError,
    TargetError,
    UnsupportedPlatformError,
    UnsupportedRequestError,
    UsageError,
)

ALL = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, EndtaskError)]


@pytest.mark.parametrize(
    ("kind", "base", "code"),
    [
        (EndtaskError, Exception, 3),
        (UsageError, EndtaskError, 2),
        (PlanError, UsageError, 2),
        (TargetError, UsageError, 2),
        (RefusedError, UsageError, 2),
        (AmbiguousError, RefusedError, 2),
        (UnsupportedRequestError, UsageError, 77),
        (NothingMatchedError, EndtaskError, 1),
        (UnsupportedPlatformError, EndtaskError, 3),
        (OsCallError, EndtaskError, 3),
        (AccessDeniedError, OsCallError, 77),
        (GoneError, OsCallError, 1),
    ],
)
def test_tree_and_exit_codes_are_those_of_the_reference(
    kind: type[EndtaskError], base: type[Exception], code: int
) -> None:
    """Each class hangs where the drawing in errors.py hangs it."""
    assert (base, code) == (kind.__base__, kind.exit_code)


def test_drawing_names_every_class() -> None:
    """The tree in the module's docstring is complete."""
    drawing = errors.__doc__ or ""
    assert [e.__name__ for e in ALL if e.__name__ not in drawing] == []


def test_os_error_names_call_process_and_reason() -> None:
    """The sentence can be made from the fields and the fields from no sentence."""
    error = AccessDeniedError("pidfd_send_signal", 1, 12, text="operation not permitted", hint="run as root")
    assert error.message == "`pidfd_send_signal` for pid 12 failed: operation not permitted"
    assert ("pidfd_send_signal", 1, 12, "run as root") == (error.call, error.code, error.pid, error.hint)
    assert OsCallError("open", 2).message == "`open` failed: error 2"


@pytest.mark.parametrize(
    "error",
    [
        PlanError("no", hint="yes"),
        AmbiguousError("two", hint="one", matches=("a", "b")),
        OsCallError("open", 2, 7, text="no such file", hint="create it"),
        GoneError("pidfd_open", 3, 7),
    ],
)
def test_error_survives_the_way_to_another_process(error: EndtaskError) -> None:
    """A worker pool pickles exceptions; all fields arrive."""
    arrived = pickle.loads(pickle.dumps(error))
    assert type(error) is type(arrived)
    assert (str(error), vars(error)) == (str(arrived), vars(arrived))
