"""Asking: filters, searches, and the statement of completeness that each answer carries.

Invariants: an answer never leaves its scope; whatever was asked is bound, never pasted into SQL; no answer goes out without
a statement of what was looked at and what was missing. This package must not write to an index or to a store.
"""
