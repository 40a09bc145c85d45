"""The model as a custom runtime of MLServer, which merges requests before it calls."""

from __future__ import annotations

import torchscript
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Runtime(MLModel):
    """What the settings of the model name."""

    async def load(self) -> bool:
        """Load the program."""
        self._program = torchscript.Program.of_environment()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run the rows of a merged request."""
        given = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        outputs = self._program.run([given[name] for name, _, _ in self._program.inputs])
        named = zip(self._program.outputs, outputs, strict=True)
        return InferenceResponse(
            model_name=self.name,
            id=payload.id,
            outputs=[NumpyCodec.encode_output(name, output) for name, output in named],
        )
