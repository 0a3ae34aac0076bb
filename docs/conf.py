"""Sphinx settings: built with `-n -W`, so a dangling reference is an error."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from endtask._version import VERSION

project = "endtask"
author = "the endtask developers"
project_copyright = "the endtask developers; Apache-2.0"
release = VERSION
version = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "endtask_reference"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "endtask"

default_role = "literal"  # docstrings write names in single backticks
nitpicky = True
# No network while the documentation is built, so names of the standard library are not links.
nitpick_ignore_regex = [
    (r"py:class", r"endtask\._record\.Record"),  # how the words are made is no promise
    (
        r"py:.*",
        r"(int|str|float|bool|bytes|object|tuple|list|dict|frozenset|set|type|None|Exception|Literal|TracebackType)",
    ),
    (r"py:.*", r"(collections\.abc|typing|types|subprocess|contextlib|os)\..*"),
    (r"py:.*", r"(Callable|Iterable|Sequence|Mapping|Awaitable|BaseException|AbstractContextManager|Popen)"),
]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autoclass_content = "both"  # the receiver describes arguments in the docstring of `__init__`
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
