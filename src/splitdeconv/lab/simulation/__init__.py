"""Deconvs in each of their forms on modelled processors: layers, whole networks, sensitivity, sweeps."""

from __future__ import annotations
