"""What a Windows process that was asked is doing instead of ending (pure): facts from before and from now -> reasons.

Decision: only what the windows and threads show. "Swallowed" is what is left when the program answers, has the same windows, and none of them waits for anybody.
Sources: Microsoft "IsHungAppWindow", "SendMessageTimeout", "WM_QUERYENDSESSION"; each signature was told apart on Wine with programs that do just that.
"""

from __future__ import annotations

from endtask._words import each_once
from endtask.model import Reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from endtask.model import Facts, Receipt, Seen, Window, WindowsFacts

BLOCKING = frozenset(("dialog", "question", "batch-question"))  # a second request would answer these for the person
CONSOLE_EVENTS = frozenset(
    ("CTRL_C", "CTRL_BREAK", "CTRL_CLOSE", "CTRL_SHUTDOWN", "CONSOLE_CTRL_C", "CONSOLE_CTRL_BREAK")
)


def diagnose(
    facts: Facts, before: WindowsFacts | None, receipts: Sequence[Receipt], *, heard: bool = False
) -> list[Reason]:
    """Return what keeps a process, the strongest reason first; empty where nothing special shows.

    Args:
        facts: Read now.
        before: What was known before the first request, None if it was not looked at then.
        receipts: What was sent.
        heard: Whether it has said itself that it heard the stop event.
    """
    windows = facts.windows
    if windows is None or facts.exited:
        return []
    pid = facts.ref.pid
    who = f"{pid} {facts.name}".rstrip()
    asked = {r.request for r in receipts if r.status == "delivered"}
    found = [_vetoed(r, who, pid) for r in receipts if r.status == "vetoed"]
    found += [_dialog(w, who, pid) for w in windows.windows if w.role == "dialog"]
    if windows.suspended:
        text = f"all threads of {who} are suspended: what was asked waits until they run again"
        found.append(Reason("suspended", text, next=_RESUME, pid=pid))
    elif before is not None and before.suspended and asked & CONSOLE_EVENTS:
        # The thread that asks is not suspended, so not all of them are any more; what its handler waits for still is.
        text = f"all threads of {who} were suspended when it was asked: its handler may wait for one of them"
        found.append(Reason("suspended", text, certain=False, next=_RESUME, pid=pid))
    if windows.hung:
        text = f"{who} does not answer its window messages: it is busy or hangs"
        found.append(Reason("hung", text, False, _force(pid), pid))
    found += _ending(windows, asked, who, pid, heard=heard)
    question = _batch_question(windows, asked)
    if question:
        found.append(Reason("batch-question", f"{who} {question}", False, "answer it there", pid))
    if not found and "WM_CLOSE" in asked:
        found += _after_close(windows, before, who, pid)
    if not found and "EXIT_PROCESS" in asked:
        text = f"ExitProcess runs in {who} and comes to no end: one of its DLLs waits, perhaps for a thread that is cut"
        found.append(Reason("exit-hangs", text, certain=False, next=f"`endtask stop {pid} --now`", pid=pid))
    found = found or _unacknowledged(before, asked, who, pid)
    if not found and asked & CONSOLE_EVENTS:
        found.append(_heard(receipts, who, pid))
    return list(dict.fromkeys(found))  # a program that asks the same question twice shows two dialogs that look alike


def _ending(windows: WindowsFacts, asked: set[str], who: str, pid: int, *, heard: bool) -> list[Reason]:
    """What says of itself that it is ending."""
    found = []
    for service in windows.services if "SERVICE_STOP" in asked else ():
        if service.state == "stop-pending":
            text = f"service {service.name} says that it is stopping, and has not stopped yet"
            found.append(Reason("service-stopping", text, next=_MORE_TIME, pid=pid))
    if heard:
        text = f"{who} says that it has heard the stop event, and is ending"
        found.append(Reason("heard", text, next=_MORE_TIME, pid=pid))
    return found


def _unacknowledged(before: WindowsFacts | None, asked: set[str], who: str, pid: int) -> list[Reason]:
    if asked != {"STOP_EVENT"} or before is None or not before.receiver or before.acknowledges:
        return []
    text = f"{who} listens to the stop event and cannot say that it has heard it: it is cleaning up, or deaf"
    more = f"{_MORE_TIME}, or ask it in another way: `endtask stop {pid} --plan ctrl-c/10`"
    return [Reason("unacknowledged", text, certain=False, next=more, pid=pid)]


def _heard(receipts: Sequence[Receipt], who: str, pid: int) -> Reason:
    """A console event was delivered: without a handler of its own the process would be gone."""
    last = next(r.request for r in reversed(receipts) if r.status == "delivered" and r.request in CONSOLE_EVENTS)
    text = (
        f"{who} has heard {last} and runs on: a handler of its own cleans up or has decided to stay, or its exit hangs"
    )
    return Reason("handler", text, certain=False, next=_MORE_TIME, pid=pid)


def _vetoed(receipt: Receipt, who: str, pid: int) -> Reason:
    detail = f": {receipt.detail}" if receipt.detail else ""
    return Reason("vetoed", f"{who} answered no to {receipt.request}{detail}", next=_force(pid), pid=pid)


def _dialog(window: Window, who: str, pid: int) -> Reason:
    said = " ".join((window.title, *window.texts)).strip()
    buttons = " ".join(f"[{b.replace('&', '')}]" for b in window.buttons)
    text = f'{who} shows the dialog "{said}"' + (f" {buttons}" if buttons else "") + ", which waits for a person"
    return Reason("dialog", text, next=f"answer it, or {_force(pid)}", pid=pid)


def _batch_question(windows: WindowsFacts, asked: set[str]) -> str:
    ctrl = {"CTRL_C", "CTRL_BREAK", "CONSOLE_CTRL_C", "CONSOLE_CTRL_BREAK"}
    if windows.runtime != "cmd" or not asked & ctrl:
        return ""
    return 'runs a batch file, which asks "Terminate batch job (Y/N)?" after Ctrl+C'


def _after_close(windows: WindowsFacts, before: WindowsFacts | None, who: str, pid: int) -> list[Reason]:
    """What became of WM_CLOSE, judged by the windows before and now."""
    earlier = {w.handle: w for w in before.windows} if before is not None else {}
    mains = [w for w in windows.windows if w.role == "main"]
    new = [w for w in windows.windows if before is not None and w.handle not in earlier and w.role in ("main", "owned")]
    if new:
        # Not a modal dialog as Windows knows it, but toolkits that draw for themselves disable no window (Qt).
        text = f'{who} has opened the window "{new[0].title}" since it was asked, which may ask a person something'
        return [Reason("question", text, certain=False, next=f"look at it, or {_force(pid)}", pid=pid)]
    was_main = [w for w in earlier.values() if w.role == "main"]
    now = {w.handle: w for w in windows.windows}
    hidden = [w for w in was_main if w.handle in now and not now[w.handle].visible]
    if hidden and not mains:
        text = f"{who} hid its window instead of closing: it may go on in the notification area"
        return [Reason("hidden", text, next=f"use its own exit command, or {_force(pid)}", pid=pid)]
    if was_main and not mains:
        rest = "with hidden ones only" if any(w.role == "hidden" for w in windows.windows) else "without any"
        text = f"{who} has closed its windows and runs on {rest}"
        return [Reason("windowless", text, False, next=_force(pid), pid=pid)]
    disabled = [w for w in mains if not w.enabled and earlier.get(w.handle, w).enabled]
    if disabled:
        text = f"a window of {who} takes no input any more: something of its own waits for a person"
        return [Reason("disabled", text, certain=False, next=f"look at it, or {_force(pid)}", pid=pid)]
    if mains or any(w.role == "hidden" for w in windows.windows):
        text = f"{who} got WM_CLOSE, answers, and keeps its window: it ignored the request or is still busy with it"
        return [Reason("swallowed", text, certain=False, next=_force(pid), pid=pid)]
    return []


_MORE_TIME = "give it more time with `--timeout`"
_RESUME = "resume it (its debugger, or whoever suspended it)"


def _force(pid: int) -> str:
    return f"`endtask stop {pid} --force-after 5s` (unsaved work is lost)"


def explain_windows(seen: Seen, below: Sequence[Facts], *, asked_before: bool, said_no: bool = False) -> list[Reason]:
    """Return why a Windows process is (still) there, its children and suspects included; *asked_before*: an earlier stop asked it in vain, or it *said no* then."""
    found = _alone(seen.facts) or [_unseen(seen.facts, asked_before=asked_before, said_no=said_no)]
    for child in below:
        found += _alone(child)
    for suspect in seen.suspects:
        text = f"{suspect.ref.pid} {suspect.name} may belong to it: {suspect.because}"
        found.append(Reason("suspect", text, certain=False, next=f"`endtask look {suspect.ref}`", pid=suspect.ref.pid))
    return found


def _alone(facts: Facts) -> list[Reason]:
    windows = facts.windows
    if windows is None or facts.exited:
        return []
    pid = facts.ref.pid
    who = f"{pid} {facts.name}".rstrip()
    found = diagnose(facts, None, ())
    for service in windows.services:
        text = f"{who} runs the service {service.name}, {service.state}"
        text += "" if service.accepts_stop else ", which accepts no stop now"
        found.append(Reason("service", text, next=f"`sc stop {service.name}`" if service.accepts_stop else "", pid=pid))
        if service.restarts:
            found.append(Reason("restarted", f"if service {service.name} dies: {service.recovery}", pid=pid))
    if windows.ignores_ctrl_c and windows.kind in ("console", "gui-windowless"):
        all_of_them = ", and Wine takes that for every console event" if windows.wine else ""
        found.append(Reason("ignored", f"{who} ignores Ctrl+C{all_of_them}", pid=pid))
    if windows.critical:
        found.append(Reason("critical", f"{who} must not end: Windows stops with it", pid=pid))
    if windows.protected:
        found.append(Reason("protected", f"{who} is a protected process: nobody may ask or end it", pid=pid))
    if windows.above_us:
        text = f"{who} has a higher integrity ({windows.integrity}) than endtask: messages and threads do not reach it"
        found.append(Reason("integrity", text, next="run endtask as administrator", pid=pid))
    if not windows.same_session:
        found.append(
            Reason("session", f"{who} is in session {windows.session}, and its windows are not ours to see", pid=pid)
        )
    if facts.ports:
        found.append(Reason("holds-port", f"{who} listens on {', '.join(each_once(facts.ports))}", pid=pid))
    return found


def _unseen(facts: Facts, *, asked_before: bool, said_no: bool) -> Reason:
    """Return what is left to say of a process that shows nothing."""
    pid = facts.ref.pid
    who = f"{pid} {facts.name}".rstrip()
    if said_no:
        return Reason("vetoed", f"{who} said no when it was asked the last time", next=_force(pid), pid=pid)
    if asked_before and _only_hidden(facts):
        text = f"{who} was asked and runs on without a window that can be seen: it may go on in the notification area"
        return Reason("hidden", text, certain=False, next=f"use its own exit command, or {_force(pid)}", pid=pid)
    if asked_before:
        text = (
            f"{who} was asked and runs on: it handled the request without ending, ignored it, or is still busy with it"
        )
        return Reason("slow", text, certain=False, next=_force(pid), pid=pid)
    text = f"nothing that can be seen keeps {who} from ending"
    return Reason("nothing", text, certain=False, next=f"ask it: `endtask stop {pid}`", pid=pid)


def _only_hidden(facts: Facts) -> bool:
    """Return whether all windows of a program with windows are hidden; those of a receiver always are."""
    windows = facts.windows
    if windows is None or windows.kind != "gui" or windows.receiver:
        return False
    roles = {w.role for w in windows.windows}
    return "hidden" in roles and not roles & {"main", "owned", "tool", "dialog"}
