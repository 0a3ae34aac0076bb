"""endtask: ask any process to stop, and know that it did.

Public names are loaded when they are used, because the command starts faster than Python imports half of them.

Example:
    >>> import endtask
    >>> report = endtask.stop("no-such-program", missing_ok=True)
    >>> report.ok
    True
"""

from __future__ import annotations

from endtask._version import VERSION as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._owned import Owned as Owned, owned as owned
    from endtask._plan import Plan as Plan
    from endtask._public import (
        look as look,
        plan as plan,
        stop as stop,
        stop_async as stop_async,
        wait as wait,
        wait_async as wait_async,
        why as why,
    )
    from endtask.errors import (
        AccessDeniedError as AccessDeniedError,
        AmbiguousError as AmbiguousError,
        EndtaskError as EndtaskError,
        GoneError as GoneError,
        NothingMatchedError as NothingMatchedError,
        OsCallError as OsCallError,
        PlanError as PlanError,
        RefusedError as RefusedError,
        TargetError as TargetError,
        UnsupportedPlatformError as UnsupportedPlatformError,
        UnsupportedRequestError as UnsupportedRequestError,
        UsageError as UsageError,
    )
    from endtask.model import (
        Event as Event,
        Evidence as Evidence,
        Explanation as Explanation,
        Facts as Facts,
        Filter as Filter,
        Forecast as Forecast,
        Looked as Looked,
        MemberReport as MemberReport,
        PidRef as PidRef,
        Planning as Planning,
        ProcessEnd as ProcessEnd,
        Reason as Reason,
        Receipt as Receipt,
        Report as Report,
        TargetReport as TargetReport,
    )

_HOME = {
    "_owned": ("Owned", "owned"),
    "_plan": ("Plan",),
    "_public": ("look", "plan", "stop", "stop_async", "wait", "wait_async", "why"),
    "errors": (
        "AccessDeniedError",
        "AmbiguousError",
        "EndtaskError",
        "GoneError",
        "NothingMatchedError",
        "OsCallError",
        "PlanError",
        "RefusedError",
        "TargetError",
        "UnsupportedPlatformError",
        "UnsupportedRequestError",
        "UsageError",
    ),
    "model": (
        "Event",
        "Evidence",
        "Explanation",
        "Facts",
        "Filter",
        "Forecast",
        "Looked",
        "MemberReport",
        "PidRef",
        "Planning",
        "ProcessEnd",
        "Reason",
        "Receipt",
        "Report",
        "TargetReport",
    ),
}
__all__ = ("__version__", *sorted(name for names in _HOME.values() for name in names))


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it."""
    for module, names in _HOME.items():
        if name in names:
            from importlib import import_module

            value: object = getattr(import_module(f"endtask.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module `endtask` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted(__all__)
