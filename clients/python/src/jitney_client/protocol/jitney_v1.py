"""Our own service: ``jitney.v1.Status``.

``POOL`` holds the descriptors (for reflection), ``METHODS`` the RPCs by name. The messages of
``jitney/v1/status.proto`` stand beside them under their own names; ``jitney_v1.pyi`` lists them.
"""

from __future__ import annotations

from jitney_client.protocol.binding import bind, methods, read

SERVICE = "jitney.v1.Status"
POOL, _names = bind(read("jitney_v1.binpb"))
METHODS = methods(POOL, SERVICE)

globals().update(_names)
