"""What a trail is: records, the Merkle tree, manifests, signed notes, seals and object keys.

The writer and the reader share this package, so that both mean the same bytes. Invariants: every function is pure (no
files, network, clock, randomness or asyncio; time and randomness come in as arguments), every parser accepts exactly one
spelling of a value, and what is hashed is what is stored. It imports nothing of the rest of the package but its errors.
"""
