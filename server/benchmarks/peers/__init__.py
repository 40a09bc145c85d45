"""The servers that ours is compared with: one module each, of one interface (``peers.peer``).

``programs`` holds what runs inside them, in their own environments.
"""
