"""endtask: ask any process to stop, and know that it did.

Public names are loaded when they are used, because the command starts faster than Python imports half of them.

Example:
    >>> import endtask
    >>> report = endtask.stop("no-such-program", missing_ok=True)
    >>> report.ok
    True
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._owned import Owned as Owned
    from endtask._owned import owned as owned
    from endtask._plan import Plan as Plan
    from endtask._public import (
        look as look,
    )
    from endtask._public import (
        plan as plan,
    )
    from endtask._public import (
        stop as stop,
    )
    from endtask._public import (
        stop_async as stop_async,
    )
    from endtask._public import (
        wait as wait,
    )
    from endtask._public import (
        wait_async as wait_async,
    )
    from endtask._public import (
        why as why,
    )
    from endtask.errors import (
        AccessDeniedError as AccessDeniedError,
    )
    from endtask.errors import (
        AmbiguousError as AmbiguousError,
    )
    from endtask.errors import (
        EndtaskError as EndtaskError,
    )
    from endtask.errors import (
        GoneError as GoneError,
    )
    from endtask.errors import (
        NothingMatchedError as NothingMatchedError,
    )
    from endtask.errors import (
        OsCallError as OsCallError,
    )
    from endtask.errors import (
        PlanError as PlanError,
    )
    from endtask.errors import (
        RefusedError as RefusedError,
    )
    from endtask.errors import (
        TargetError as TargetError,
    )
    from endtask.errors import (
        UnsupportedPlatformError as UnsupportedPlatformError,
    )
    from endtask.errors import (
        UnsupportedRequestError as UnsupportedRequestError,
    )
    from endtask.errors import (
        UsageError as UsageError,
    )
    from endtask.model import (
        Event as Event,
    )
    from endtask.model import (
        Evidence as Evidence,
    )
    from endtask.model import (
        Explanation as Explanation,
    )
    from endtask.model import (
        Facts as Facts,
    )
    from endtask.model import (
        Filter as Filter,
    )
    from endtask.model import (
        Forecast as Forecast,
    )
    from endtask.model import (
        Looked as Looked,
    )
    from endtask.model import (
        MemberReport as MemberReport,
    )
    from endtask.model import (
        PidRef as PidRef,
    )
    from endtask.model import (
        Planning as Planning,
    )
    from endtask.model import (
        ProcessEnd as ProcessEnd,
    )
    from endtask.model import (
        Reason as Reason,
    )
    from endtask.model import (
        Receipt as Receipt,
    )
    from endtask.model import (
        Receiver as Receiver,
    )
    from endtask.model import (
        Report as Report,
    )
    from endtask.model import (
        Said as Said,
    )
    from endtask.model import (
        TargetReport as TargetReport,
    )

    __version__: str

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
        "Receiver",
        "Report",
        "Said",
        "TargetReport",
    ),
}
__all__ = ["__version__", *sorted(name for names in _HOME.values() for name in names)]  # noqa: PLE0604  # names by construction


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it."""
    if name == "__version__":
        from endtask._version import VERSION

        return VERSION
    for module, names in _HOME.items():
        if name in names:
            from importlib import import_module

            value: object = getattr(import_module(f"endtask.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module `endtask` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted(__all__)
