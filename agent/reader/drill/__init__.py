"""`drill`: the yearly exercise. On a copy of a store it does what an attacker would do, and shows that each is caught.

Invariants: the store itself is only ever read; nothing is random but by a seed that is printed; what was not tried is said and never
counted as caught. This package must not import the writing side, and must not open a file of the original for writing.
"""
