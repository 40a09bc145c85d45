"""The Open Inference Protocol with Triton's extensions: ``inference.GRPCInferenceService``.

``POOL`` holds the descriptors (for reflection), ``METHODS`` the RPCs by name. The messages and
enums of ``grpc_service.proto`` and ``model_config.proto`` stand beside them under their own names;
``inference.pyi`` lists them.
"""

from __future__ import annotations

from jitney_client.protocol.binding import bind, methods, read

SERVICE = "inference.GRPCInferenceService"
POOL, _names = bind(read("inference.binpb"))
METHODS = methods(POOL, SERVICE)

globals().update(_names)
