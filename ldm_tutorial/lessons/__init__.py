"""The classroom: the notebooks' preflight and `show`, the exact toy world, memory, comparing two networks."""
