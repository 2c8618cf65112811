"""The commands for whoever was handed evidence: they need neither a store nor an index, and nothing but the package's base.

This package must not import `agent.reader.index`, nor what does.
"""
