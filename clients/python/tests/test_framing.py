"""Messages put together and cut apart by hand are those of protobuf."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney_client.framing import SMALL, id_field, join_request, split_reply, split_stream_reply
from jitney_client.protocol import inference
from jitney_client.tensors import encode_view

BROKEN = r"ends inside a field|unknown kind"
BLOBS = st.lists(st.sampled_from([0, 1, 127, 128, 300, SMALL]), max_size=4)


@given(BLOBS, st.text(max_size=200))
def test_a_request_is_what_protobuf_reads(sizes: list[int], name: str) -> None:
    """Head, id and tensors come back, whatever their lengths."""
    head = inference.ModelInferRequest(model_name="m", model_version="1")
    arrays = [np.arange(size, dtype=np.uint8) for size in sizes]
    for array in arrays:
        head.inputs.add(name="x", datatype="UINT8", shape=array.shape)
    pieces = [head.SerializeToString(), *(id_field(name) if name else ())]
    message = join_request(pieces, map(encode_view, arrays))
    head.id = name
    head.raw_input_contents.extend(array.tobytes() for array in arrays)
    assert head == inference.ModelInferRequest.FromString(message)


@given(BLOBS)
def test_a_reply_is_what_protobuf_wrote(sizes: list[int]) -> None:
    """Small ones are read by protobuf, large ones cut apart; nobody sees a difference."""
    reply = inference.ModelInferResponse(model_name="m", id="r")
    reply.parameters["p"].double_param = 1.5
    for size in sizes:
        reply.outputs.add(name="y", datatype="UINT8", shape=[size])
        reply.raw_output_contents.append(bytes(range(256)) * (size // 256) + bytes(size % 256))
    message, raw = split_reply(reply.SerializeToString())
    assert list(reply.raw_output_contents) == [bytes(tensor) for tensor in raw]
    del reply.raw_output_contents[:]
    del message.raw_output_contents[:]
    assert reply == message


def test_large_tensors_are_views_of_the_message() -> None:
    """Nothing is copied that is worth a thought."""
    reply = inference.ModelInferResponse(raw_output_contents=[bytes(SMALL)])
    data = reply.SerializeToString()
    _, (tensor,) = split_reply(data)
    assert isinstance(tensor, memoryview)
    assert data is tensor.obj


@pytest.mark.parametrize("text", ["", "what is wrong"])
def test_a_stream_reply_is_error_and_reply(text: str) -> None:
    """Both parts come back, and a missing error is an empty text."""
    reply = inference.ModelInferResponse(id="r")
    message = inference.ModelStreamInferResponse(error_message=text, infer_response=reply)
    error, data = split_stream_reply(message.SerializeToString())
    assert (text, reply.SerializeToString()) == (error, bytes(data))


@pytest.mark.parametrize("end", [b"", b"\x32", b"\x32\xff", b"\x32\x05abc", b"\x0f", b"\x09ab"])
def test_broken_messages_are_refused(end: bytes) -> None:
    """A message that ends inside a field, or has an impossible one, is a ValueError."""
    good = inference.ModelInferResponse(raw_output_contents=[bytes(SMALL)]).SerializeToString()
    if end:
        with pytest.raises(ValueError, match=BROKEN):
            split_reply(good + end)
        with pytest.raises(ValueError, match=BROKEN):
            split_stream_reply(end)
    else:
        split_reply(good)


def test_unknown_fields_are_no_error() -> None:
    """A newer server may send more: fields of every kind are passed over."""
    good = inference.ModelInferResponse(raw_output_contents=[bytes(SMALL)]).SerializeToString()
    more = b"\xf8\x06\x96\x01" + b"\xf9\x06" + bytes(8) + b"\xfd\x06" + bytes(4) + b"\xfa\x06\x01x"
    _, (tensor,) = split_reply(good + more)
    assert SMALL == len(tensor)
    assert ("", b"") == split_stream_reply(more)
