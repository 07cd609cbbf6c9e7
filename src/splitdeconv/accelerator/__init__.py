"""Modelled processors: counts of what a convolution costs (cycles, accesses, traffic), and energy per action apart.

``work`` says what a processor is asked to do, ``sparsity`` which of it is zero, one module per dataflow counts cycles
and on-chip accesses, ``traffic`` the tiling and the DRAM, ``evaluate`` puts them together, ``energy`` prices them.
"""

from __future__ import annotations
