"""Deciding which requests share a batch, and when it leaves."""
