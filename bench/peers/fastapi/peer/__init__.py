"""The REST peer of the benchmark: the three read endpoints as the existing service serves them.

It reads `sync_executions` and nothing else; it never writes.
"""
