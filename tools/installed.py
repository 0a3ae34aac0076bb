"""Check an installed endtask from the outside: run with the interpreter of the environment that has it, in an empty folder.

What an archive must carry is easy to lose in packaging and impossible to notice in a source folder.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import distribution
from importlib.resources import files


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
    if faults:
        sys.exit("\n".join(faults))
    print(f"installed: {len(schemas)} schemas, {len(endtask.__all__)} public names, no dependency")


if __name__ == "__main__":
    main()
