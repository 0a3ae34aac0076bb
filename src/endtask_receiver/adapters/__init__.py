"""Adapters: libraries that have a stop of their own, and follow ours.

One module for each library, imported by who uses it; none imports its library before it is used.
"""

from __future__ import annotations
