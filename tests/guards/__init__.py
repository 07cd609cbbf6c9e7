"""Guards for a redesign: what one checkout does, written down so that another one can be compared with it.

Nothing here is collected by pytest. ``PYTHONPATH`` chooses the checkout; ``python -m tests.guards.golden`` and its
neighbours say at their top how they are run.
"""
