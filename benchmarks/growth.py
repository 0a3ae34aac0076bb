"""From few processes to many: what each of them costs must stay the same."""

from __future__ import annotations

from functools import partial

from lab import SLEEPER, Lab, Row, cpu, median

SIZES = (100, 1000, 5000, 10_000, 20_000)
FLAT = 1.3


def measure(lab: Lab, most: int) -> list[Row]:
    """Return the row of the growth: processor time and memory for each process beyond the first."""
    sizes = [s for s in SIZES if s <= most]
    command = [lab.endtask, "stop", "--all", "-q", SLEEPER, "-t", "60s"]
    runs = lab.compare({str(n): partial(lab.run, command, sleepers=n) for n in (1, *sizes)})
    base = runs["1"]
    base_cpu, base_rss = median(cpu(base)), median([c.rss_mib for c in base])
    each_us = {n: (median(cpu(runs[str(n)])) - base_cpu) / (n - 1) * 1e6 for n in sizes}
    each_kib = {n: (median([c.rss_mib for c in runs[str(n)]]) - base_rss) / (n - 1) * 1024 for n in sizes}
    # Below 1,000 the memory of a process is less than a page of noise.
    time_growth = each_us[sizes[-1]] / each_us[sizes[0]]
    memory_growth = each_kib[sizes[-1]] / each_kib[sizes[1]]
    left = sum(c.left for costs in runs.values() for c in costs)
    return [
        Row(
            f"growth from {sizes[0]} to {sizes[-1]:,} processes",
            "; ".join(f"{n:,}: {each_us[n]:.0f} us, {each_kib[n]:.1f} KiB" for n in sizes),
            f"one: {base_cpu * 1e3:.0f} ms, {base_rss:.1f} MiB",
            f"CPU and memory per process flat within {FLAT} x",
            f"CPU {time_growth:.2f} x, memory {memory_growth:.2f} x (from {sizes[1]:,})"
            + (f"; {left} left" if left else ""),
            time_growth <= FLAT and memory_growth <= FLAT and not left,
        )
    ]
