"""The flags of tritonserver that are no flags here: what to write instead of each.

Its other flags have the same names and meanings here. These are not taken as aliases, because a
setting has one name; but who comes from Triton with a long command line shall not have to find out
one by one what became of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["INSTEAD"]

_NO_HTTP: Final = "leave it out: jitney speaks gRPC only, besides metrics over HTTP"
_NO_CLOUD: Final = "leave it out: jitney speaks gRPC only"
_NO_CACHE: Final = "leave it out: there is no cache of replies"
_NO_POOL: Final = "leave it out; batches are staged in buffers: --slots and --slot-bytes"
_NO_BACKENDS: Final = "leave it out: there are no back-ends to plug in"
_NO_RATES: Final = "leave it out: models share a device fairly"
_KEEPALIVE: Final = "leave it out: such options are fixed; see docs/operations.md"
_TRACE: Final = "use the RPC TraceSetting, which says what is traced; see --trace-file for where"
_CONFIGS: Final = "leave it out: a configuration is never made up; PyTorch models need one anyhow"
_LOG: Final = "write --log-level: debug, info, warning or error"
_LOADS: Final = "leave it out: models are loaded one after the other"
_RESTRICTED: Final = "write --tokens-file, and give clients tokens; see docs/access.md"
_SMALL_POOLS: Final = "leave it out: threads and buffers of gRPC need no tuning here"

INSTEAD: Final[Mapping[str, str]] = {
    "--allow-cpu-metrics": "write --metrics=false for no metrics at all",
    "--allow-gpu-metrics": "write --metrics=false for no metrics at all",
    "--allow-grpc": "leave it out: gRPC is what is served",
    "--allow-http": _NO_HTTP,
    "--allow-metrics": "write --metrics",
    "--allow-sagemaker": _NO_CLOUD,
    "--allow-vertex-ai": _NO_CLOUD,
    "--backend-config": _NO_BACKENDS,
    "--backend-directory": _NO_BACKENDS,
    "--buffer-manager-thread-count": _NO_POOL,
    "--cache-config": _NO_CACHE,
    "--cache-directory": _NO_CACHE,
    "--cuda-memory-pool-byte-size": _NO_POOL,
    "--cuda-virtual-address-size": _NO_POOL,
    "--disable-auto-complete-config": _CONFIGS,
    "--enable-peer-access": "leave it out: no model runs on several GPUs at once",
    "--exit-timeout-secs": "write --drain-timeout-seconds",
    "--grpc-address": "write --host",
    "--grpc-header-forward-pattern": "write --forward-metadata",
    "--grpc-http2-max-ping-strikes": _KEEPALIVE,
    "--grpc-http2-max-pings-without-data": _KEEPALIVE,
    "--grpc-http2-min-recv-ping-interval-without-data": _KEEPALIVE,
    "--grpc-infer-allocation-pool-size": _SMALL_POOLS,
    "--grpc-infer-response-compression-level": "leave it out: replies are never compressed",
    "--grpc-infer-thread-count": _SMALL_POOLS,
    "--grpc-keepalive-permit-without-calls": _KEEPALIVE,
    "--grpc-keepalive-time": _KEEPALIVE,
    "--grpc-keepalive-timeout": _KEEPALIVE,
    "--grpc-max-connection-age": _KEEPALIVE,
    "--grpc-max-connection-age-grace": _KEEPALIVE,
    "--grpc-max-response-pool-size": _SMALL_POOLS,
    "--grpc-restricted-protocol": _RESTRICTED,
    "--grpc-root-cert": "write --tls-client-ca",
    "--grpc-server-cert": "write --tls-certificate",
    "--grpc-server-key": "write --tls-key",
    "--grpc-use-ssl": "write --tls-certificate and --tls-key",
    "--grpc-use-ssl-mutual": "write --tls-client-ca",
    "--host-policy": "start the server under numactl or taskset",
    "--http-address": _NO_HTTP,
    "--http-header-forward-pattern": _NO_HTTP,
    "--http-max-input-size": _NO_HTTP,
    "--http-port": _NO_HTTP,
    "--http-restricted-api": _NO_HTTP,
    "--http-thread-count": _NO_HTTP,
    "--id": "leave it out: a server has no name of its own",
    "--log-error": _LOG,
    "--log-file": "redirect stderr, where the log goes",
    "--log-info": _LOG,
    "--log-verbose": "write --log-level debug",
    "--log-warning": _LOG,
    "--metrics-address": "write --host",
    "--metrics-config": "leave it out: what is measured is fixed; see docs/metrics.md",
    "--metrics-interval-ms": "leave it out: figures are read when somebody asks",
    "--min-supported-compute-capability": "write --device",
    "--model-load-gpu-limit": "leave it out: a batch size that does not fit is found out at load",
    "--model-load-retry-count": _LOADS,
    "--model-load-thread-count": _LOADS,
    "--model-namespacing": "give models different names",
    "--model-store": "write --model-repository",
    "--pinned-memory-pool-byte-size": _NO_POOL,
    "--rate-limit": _NO_RATES,
    "--rate-limit-resource": _NO_RATES,
    "--repoagent-directory": "leave it out: model files are hashed; see jitney status MODEL",
    "--repository-poll-secs": "write --repository-poll-seconds",
    "--response-cache-byte-size": _NO_CACHE,
    "--reuse-grpc-port": "leave it out: two servers never share a port",
    "--reuse-http-port": _NO_HTTP,
    "--sagemaker-port": _NO_CLOUD,
    "--sagemaker-safe-port-range": _NO_CLOUD,
    "--sagemaker-thread-count": _NO_CLOUD,
    "--strict-model-config": _CONFIGS,
    "--trace-config": _TRACE,
    "--trace-count": _TRACE,
    "--trace-level": _TRACE,
    "--trace-log-frequency": _TRACE,
    "--trace-rate": _TRACE,
    "--vertex-ai-default-model": _NO_CLOUD,
    "--vertex-ai-port": _NO_CLOUD,
    "--vertex-ai-thread-count": _NO_CLOUD,
}
"""By flag. A test compares these with our own flags, and with docs/migrating-from-triton.md."""
