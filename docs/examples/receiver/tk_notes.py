"""A window of tkinter: asked to stop, it saves the text, as when the user closes it.

Run it as `python tk_notes.py FILE`.
"""

from __future__ import annotations

import sys
import tkinter as tk
from pathlib import Path

from endtask_receiver import gui, listen


class Notes:
    """One text in one window."""

    def __init__(self, root: tk.Tk, path: Path) -> None:
        self.root = root
        self.path = path
        self.text = tk.Text(root)
        self.text.pack()
        if path.exists():
            self.text.insert("1.0", path.read_text())

    def leave(self) -> None:
        """Save, all or nothing, and close the window."""
        new = self.path.with_suffix(".new")
        new.write_text(self.text.get("1.0", "end-1c"))
        new.replace(self.path)
        self.root.destroy()


def main() -> None:
    """Show the window until it is closed, by the user or by a request."""
    root = tk.Tk()
    notes = Notes(root, Path(sys.argv[1]))
    root.protocol("WM_DELETE_WINDOW", notes.leave)
    with listen(grace_s=10, name="notes") as stop:
        gui.tk(stop, root, notes.leave)  # called by tkinter's own loop, in its own thread: it may touch windows
        notes.text.insert("end", "and a line that nobody has saved yet\n")
        root.after(1, lambda: print("ready", flush=True))
        root.mainloop()
        stop.finish()


if __name__ == "__main__":
    main()
