"""The auditor's side: fetch what a store holds, check every claim in it, and report.

Invariants: nothing here writes to a store or needs a secret; what cannot be checked is never reported as intact. It
must not import the writing side (spool, sealer, shipper, runtime, sources, relay), so that no defect of the writer can
hide in the checker.
"""
