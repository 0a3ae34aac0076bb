"""`python -m endtask`."""

from endtask.cli.main import run

run()
