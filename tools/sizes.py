"""Check the sizes that keep code readable: functions up to 35 lines, modules up to 400.

A function's docstring does not count.
A module may be longer if its docstring says why, in a line that begins with `Size:`; a function, if a comment `# size: reason` stands on its first line.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

FUNCTION_LINES = 35
MODULE_LINES = 400
ROOT = Path(__file__).resolve().parent.parent


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function without its docstring."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def check(path: Path) -> list[str]:
    """Return one line of text for each thing in *path* that is too long."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    tree = ast.parse(source)
    where = path.relative_to(ROOT)
    found = []
    if len(lines) > MODULE_LINES and "Size:" not in (ast.get_docstring(tree) or ""):
        found.append(f"{where}: {len(lines)} lines, {MODULE_LINES} allowed without a `Size:` reason")
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        size = body_lines(node)
        if size > FUNCTION_LINES and "# size:" not in lines[node.lineno - 1]:
            found.append(f"{where}:{node.lineno}: {node.name} has {size} lines, {FUNCTION_LINES} allowed")
    return found


def main() -> int:
    """Check the package and the tools; print what is too long."""
    files = [f for folder in ("src", "tools", "docs") for f in sorted((ROOT / folder).rglob("*.py"))]
    found = [line for file in files for line in check(file)]
    print("\n".join(found) or f"{len(files)} files, all within their sizes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
