"""How many rows of a model a batch buffer takes, where its signature says how large they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.errors import ModelError
from jitney.execution.slots import ALIGNMENT

if TYPE_CHECKING:
    from jitney.signature import Signature

__all__ = ["rows_that_fit"]


def rows_that_fit(signature: Signature, rows: int, slot_bytes: int) -> tuple[int, tuple[str, ...]]:
    """Return how many of ``rows`` fit into a buffer, and what to warn of if not all do.

    A batch of more could never be put together, so it need not be warmed up either. Inputs that may
    be left out, and sizes that vary, are not counted.

    :param rows: of the largest batch that is asked for; 1 where the model has no batch dimension.
    :raises ModelError: when not even one row fits. It would be READY and refuse every request.
    """
    fit, warnings = rows, []
    required = [spec for spec in signature.inputs if not spec.optional]
    for what, specs in (("inputs", required), ("outputs", signature.outputs)):
        row = sum(spec.row_bytes or 0 for spec in specs)
        # Each starts at an aligned offset, so each may lose up to one alignment.
        padding = ALIGNMENT * len(specs)
        whole = row * rows + padding
        if row + padding > slot_bytes:
            msg = (
                f"its {what} have {row} bytes{' a row' if signature.batched else ''}, and a batch "
                f"buffer has {slot_bytes}; start the server with --slot-bytes {whole}"
            )
            raise ModelError(msg)
        if whole > slot_bytes:
            fit = min(fit, (slot_bytes - padding) // row)
            warnings.append(
                f"{rows} rows of its {what} do not fit into a batch buffer; --slot-bytes {whole} "
                "makes room for them"
            )
    return fit, tuple(warnings)
