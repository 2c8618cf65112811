"""Trailseal: ships a service's audit events, sealed and hash-chained, to a store nobody can rewrite."""

__version__ = "0.1.0"
