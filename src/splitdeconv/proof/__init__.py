"""Proof that a rewritten model equals the original."""
