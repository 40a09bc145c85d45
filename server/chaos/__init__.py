"""Faults on purpose: ``python -m chaos [NAME …]``, from this folder's parent.

Every scenario starts a real server, does something to it, and prints each figure against its goal.
``faults`` are scenarios with a server process, ``fuzz`` are hostile inputs by the million. What
looks for a fault has a control: the same with the defence switched off, where it must find one.
"""
