"""One folder a kind, all of one shape: gather what is known, `plan` (pure), act, write the status once.

`plan.py` and `status.py` decide and do no I/O; `reconcile.py` does I/O and decides nothing.
"""
