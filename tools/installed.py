"""Check an installed endtask from the outside: run with the interpreter of the environment that has it, in an empty folder.

What an archive must carry is easy to lose in packaging and impossible to notice in a source folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

ALONE = """
import sys
sys.path.append(sys.argv[1])
import endtask_receiver
with endtask_receiver.listen(signals=()) as stop:
    stop.ask()
missing = [name for name in endtask_receiver.__all__ if not hasattr(endtask_receiver, name)]
strange = [name for name in sys.modules if name.partition(".")[0] == "endtask"]
print(missing + strange or "")
"""


def receiver_faults() -> list[str]:
    """Look at the second package: it must do by itself, copied out of the environment."""
    import endtask_receiver

    package = Path(endtask_receiver.__file__).parent
    faults = []
    if not (package / "py.typed").is_file():
        faults.append("py.typed of the receiver is missing, so type checkers ignore the annotations")
    if "site-packages" not in package.parts:
        faults.append(f"endtask_receiver came from {package}, not from the environment")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(package, Path(folder) / "endtask_receiver")
        # -S: without site-packages, so without the other package.
        command = [sys.executable, "-I", "-S", "-W", "error", "-c", ALONE, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or done.stdout.strip() or done.stderr:
        faults.append(f"the receiver does not do alone: {done.stdout}{done.stderr}")
    return faults


def main() -> None:
    """Look at files, metadata and the names that can be imported.

    Raises:
        SystemExit: Something is missing; the message says what.
    """
    import endtask

    package = files("endtask")
    faults = []
    if not package.joinpath("py.typed").is_file():
        faults.append("py.typed is missing, so type checkers ignore the annotations")
    schemas = [f for f in package.joinpath("schemas").iterdir() if f.name.endswith(".json")]
    if not schemas:
        faults.append("no JSON Schema is shipped")
    for schema in schemas:
        json.loads(schema.read_text("utf-8"))
    if "site-packages" not in (endtask.__file__ or ""):
        faults.append(f"endtask came from {endtask.__file__}, not from the environment")
    metadata = distribution("endtask")
    if metadata.version != endtask.__version__:
        faults.append(f"metadata says {metadata.version}, the package {endtask.__version__}")
    installed = {f.name for f in metadata.files or ()}
    faults += [f"the command `{name}` is missing" for name in ("endtask", "endtask.cmd") if name not in installed]
    needed = [r for r in metadata.requires or () if "extra ==" not in r]
    if needed:
        faults.append(f"there are run-time dependencies: {needed}")
    faults += [f"the public name `{name}` cannot be imported" for name in endtask.__all__ if not hasattr(endtask, name)]
    faults += receiver_faults()
    if faults:
        sys.exit("\n".join(faults))
    print(f"installed: {len(schemas)} schemas, {len(endtask.__all__)} public names, the receiver alone, no dependency")


if __name__ == "__main__":
    main()
