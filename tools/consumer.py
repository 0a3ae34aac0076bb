"""A program that uses every public function with types: checked against the installed wheel, never run."""

from __future__ import annotations

import asyncio
import subprocess

import endtask
import endtask_receiver
from endtask_receiver import aio, children, testing, workers


def plain() -> int:
    """Stop, and read everything of the report."""
    report: endtask.Report = endtask.stop("nginx", ":3000", 4711, timeout_s=10, plan="TERM/10/KILL/2", missing_ok=True)
    for target in report.targets:
        ref: endtask.PidRef = target.ref
        words: list[str] = [e.text for e in target.evidence]
        print(ref.pid, ref.token, target.outcome == "stopped", words)
    for member in report.survivors:
        end: endtask.ProcessEnd | None = member.end
        print(member.name, end is not None and end.known)
    told = endtask.stop("ingest", extend_s=30, reason="deploy 12", on_event=lambda event: print(event.text))
    said: list[endtask.Said] = [s for m in told.targets[0].members for s in m.said]
    print([(s.kind == "need", s.granted_s) for s in said])
    data: dict[str, object] = report.to_json()
    return report.exit_code if report.ok else len(data)


def others() -> None:
    """Call the other verbs."""
    looked: endtask.Looked = endtask.look("nginx", filters=endtask.Filter(user="ana"))
    receiver: endtask.Receiver | None = looked.seen[0].facts.receiver
    print(receiver is not None and receiver.state == "asked")
    answers: list[str] = [s.forecast.answer("TERM") for s in looked.seen]
    planning: endtask.Planning = endtask.plan("nginx", scope="group", keep=("redis",))
    explanation: endtask.Explanation = endtask.why(4711)
    waited: endtask.Report = endtask.wait(4711, timeout_s=1.5)
    plan: endtask.Plan = endtask.Plan.parse("TERM/10/INT/5")
    print(answers, planning, explanation, waited.elapsed_s, plan, endtask.__version__)


async def in_a_loop() -> bool:
    """Do the same without blocking."""
    stopped: endtask.Report = await endtask.stop_async(":3000", timeout_s=5)
    waited: endtask.Report = await endtask.wait_async(":3000", timeout_s=5)
    return stopped.ok and waited.ok


def owning() -> None:
    """Own a tree, and handle what can go wrong."""
    try:
        with endtask.owned(["sleep", "60"], extend_s=5, reason="the test is over") as tree:
            print(tree)
    except endtask.AccessDeniedError as error:
        print(error.call, error.code, error.pid)
    except endtask.EndtaskError as error:
        print(error.message, error.hint, error.exit_code)


def listening() -> None:
    """Write the other half: a program that hears."""
    policy = endtask_receiver.Policy(steps=("ask", "exit"), window_s=0.5)
    with endtask_receiver.listen(grace_s=5, signals=("TERM", 2), stdin=True, parent=True, policy=policy) as stop:
        stop.cleanup(print, "bye", budget_s=2.0, name="bye")
        children.Children(stop).add(subprocess.Popen(["true"]), kill=True)
        link: workers.Link = workers.Link(stop)
        with workers.starting():
            print(link, stop.ears)
        for item in stop.iterate(["a", "b"]):
            with stop.shield(2, why="writing"):
                print(item.upper(), stop.nap(0.1), stop.left())
            stop.checkpoint()
        request: endtask_receiver.StopRequest | None = stop.request
        if request is not None:
            stop.tell(f"asked by {request.channel}", done=1, total=2)
        if stop.hurry or not stop:
            stop.finish("status")


async def listening_in_a_loop(stop: endtask_receiver.Stop) -> str:
    """Await it in three ways."""
    first: endtask_receiver.StopRequest = await stop
    async for request in stop:
        print(request.reason)
    async with aio.cancel_on_stop(stop, "deadline") as scope:
        await asyncio.sleep(1)
    return first.name if scope.cancelled else ""


def testing_it() -> None:
    """Test without signals."""
    with testing.fake(at_look=2) as stop:
        stop.ask_in(3)
        stop.advance(1.0)
        steps: tuple[endtask_receiver.CleanupStep, ...] = stop.cleaned
        print([s.outcome for s in steps], stop.looks)
