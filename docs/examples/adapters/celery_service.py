"""Tasks of celery, and a worker that finishes them when somebody asks.

Run it as `celery -A celery_service worker`. The queue is a folder here; yours is a broker.
"""

from __future__ import annotations

import os
import time

from celery import Celery

from endtask_receiver.adapters import celery_

folder = os.environ.get("QUEUE", "queue")
os.makedirs(folder, exist_ok=True)
app = Celery("celery_service", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder}
celery_.follow(grace_s=20, name="celery service")


@app.task  # type: ignore[untyped-decorator]
def work(number: int) -> None:
    """Do one job."""
    print(f"began {number}")
    time.sleep(0.5)  # the work
    print(f"did {number}")
