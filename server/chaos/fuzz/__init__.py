"""Hostile inputs by the million, each for what reads it."""
