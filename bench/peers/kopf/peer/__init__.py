"""The Python peer of the benchmark: what sync-operator does, as kopf does it.

It is run as `python -m peer`; README.md says what was tuned and what is left out.
"""
