"""What stores guarantee, and what the agent's own credentials could do to them: asked for, judged, shown.

    findings   the closed list of checks, the verdicts, what a finding is
    facts      what was seen, without a judgement
    folder     asks a directory store             folder_judge   what that means
    s3         asks a bucket by S3's own API      s3_judge       what that means
    generic    asks a bucket of another cloud     generic_judge  what that means
    run        every store, one after the other
    report     the table and the JSON

Invariants: nothing but the doctor's own objects, under ``probes/`` of the agent's own identity, is written, replaced or deleted; a
setting of a bucket is written only as it was just read, or as it is known to be; a policy is never written. What could not be asked is
``not tested`` with the reason, never ``ok``.
"""

from __future__ import annotations

from .findings import Check, Finding, Report, StoreReport, Verdict
from .run import examine_stores

__all__ = ["Check", "Finding", "Report", "StoreReport", "Verdict", "examine_stores"]
