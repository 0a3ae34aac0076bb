"""The same with the receiver, which also hears `taskkill`, the end of the session, and endtask; and which runs on Linux as well."""

from __future__ import annotations

from endtask_receiver import listen

with listen() as stop:
    print("ready", flush=True)
    stop.wait()
    print("saved", flush=True)
