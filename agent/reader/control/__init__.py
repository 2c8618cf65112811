"""Control evidence: which catalogued events were seen, what a trail shows for each control, and who reviewed it.

Invariants: nothing here says that a control is met; it says what evidence there is, and where there is none. What a scope does not
allow is not counted, named or hinted at. This package must not read a store: it asks an index, which holds only what was verified.
"""
