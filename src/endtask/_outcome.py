"""Stage 6, the word: a settled job -> its outcome (pure).

Decision: the outcome is the *worst* thing that is true of a target, and `stopped` is what remains when nothing else is.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from endtask._job import Job
    from endtask.model import Outcome


def outcome(job: Job) -> Outcome:
    """Return the word for a settled job."""
    alive = [m for m in job.members if m.concerns_us]
    delivered = any(r.status == "delivered" for m in job.members for r in m.receipts)
    if alive:
        if job.refused == "unreachable":
            return "unreachable"
        if job.refused or any(m.denied for m in alive):
            return "not-permitted"
        vetoed = any(m.vetoed or any(r.status == "vetoed" for r in m.receipts) for m in alive)
        return "vetoed" if vetoed else "running"
    if not proved(job):
        return "unproven"
    if job.respawn is not None:
        return "respawned"
    if any(m.forced for m in job.members):
        return "forced"
    if not delivered and job.policy.steps:
        return "already-gone"
    return "stopped"


def proved(job: Job) -> bool:
    """Return whether the emptiness of the scope was shown."""
    if job.suspects or not job.evidence:
        return False
    if any(p.ours for p in job.ports if not p.free):
        return False
    return all(e.strength != "unproven" for e in job.evidence)
