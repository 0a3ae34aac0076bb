"""Select with psutil: `psutil_find.py name|cmdline|user VALUE`."""

from __future__ import annotations

import sys

import psutil

field, value = sys.argv[1:]
if field == "name":
    found = [p.pid for p in psutil.process_iter(["name"]) if p.info["name"] == value]
elif field == "cmdline":
    found = [p.pid for p in psutil.process_iter(["cmdline"]) if value in " ".join(p.info["cmdline"] or ())]
else:
    found = [p.pid for p in psutil.process_iter(["uids"]) if p.info["uids"] and p.info["uids"].effective == int(value)]
print(*found, sep="\n")
