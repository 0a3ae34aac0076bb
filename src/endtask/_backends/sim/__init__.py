"""An operating system in memory, with a virtual clock: deterministic, fast, and meaner than a real one.

Read `spec.py` for what a machine and its programs are made of, `system.py` for the kernel, `programs.py` for what programs can do,
`backend.py` for what endtask sees of it, `talk.py` for conversations, `lives.py` and `talkers.py` for random lives.
"""
