"""An application of the tests: its queue is a folder, its tasks wait at the gate."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.signals import worker_ready
from hearing import EACH, say_requests  # type: ignore[import-not-found]  # beside this program

from endtask_receiver.adapters import celery_

if TYPE_CHECKING:
    from endtask_receiver import Stop

folder = os.environ["GATE"] + ".queue"
os.makedirs(folder, exist_ok=True)
app = Celery("celery_tasks", broker="filesystem://", backend=None)
app.conf.update(
    broker_transport_options={"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder},
    task_ignore_result=True,
    worker_redirect_stdouts=False,
    worker_prefetch_multiplier=1,
)


def say(*words: object) -> None:
    """Write a line with one system call: several processes share the pipe."""
    os.write(sys.__stdout__.fileno(), ("| " + " ".join(map(str, words)) + "\n").encode())  # type: ignore[union-attr]


@app.task  # type: ignore[untyped-decorator]  # celery has no types
def work() -> None:
    """Wait at the gate."""
    say("work")
    with open(os.environ["GATE"], "rb", buffering=0) as gate:
        gate.read(1)
    say("done")


@worker_ready.connect  # type: ignore[untyped-decorator]  # before ours
def tell_of_the_cold_shutdown(sender: Any, **_more: object) -> None:
    """Print when celery has begun it."""
    wait = sender.controller.wait_for_soft_shutdown

    def told() -> None:
        say("cold")
        wait()

    sender.controller.wait_for_soft_shutdown = told


def on_stop(stop: Stop) -> None:
    """Print what whoever asked would see."""
    say_requests(stop)
    stop._listeners.append(lambda news: say(news.text, news.done, news.total))
    stop.cleanup(say, "cleaned", name="say")
    say("listening")


celery_.follow(grace_s=float(os.environ["GRACE"]), policy=EACH, on_stop=on_stop)
