"""Answers as text: arrays, classes, vectors and JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jitney.cli.answers import as_arrays, as_classes, as_json, as_vectors
from jitney.errors import ConfigError
from jitney_client import InferResult
from jitney_client.protocol import inference
from jitney_client.tensors import encode


def result(**outputs: object) -> InferResult:
    """Return what a client would have got."""
    reply = inference.ModelInferResponse(model_name="m", model_version="1")
    for name, values in outputs.items():
        tensor = encode(np.asarray(values))
        reply.outputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
        reply.raw_output_contents.append(tensor.data)
    return InferResult(reply)


def test_scores_become_probabilities() -> None:
    """The likeliest class is the label, and three are shown with their shares."""
    scores = np.log(np.array([[0.5, 0.25, 0.125, 0.125]]))
    expected = "IMAGE  LABEL  PROBABILITIES\nx.png  0      0 50.0%, 1 25.0%, 2 12.5%\n"
    assert expected == as_classes(result(scores=scores), ["x.png"])


def test_probabilities_stay_as_they_are_and_labels_name_them() -> None:
    """Rows that are not negative and sum to 1 are not normalised again."""
    expected = "IMAGE  LABEL  PROBABILITIES\nx.png  b      b 75.0%, a 25.0%\n"
    assert expected == as_classes(result(scores=[[0.25, 0.75]]), ["x.png"], ["a", "b"])


def test_labels_must_fit() -> None:
    """Names for another number of classes would name the wrong ones."""
    with pytest.raises(ConfigError, match="3 names for 2 classes"):
        as_classes(result(scores=[[0.25, 0.75]]), ["x.png"], ["a", "b", "c"])


def test_vectors_are_compared() -> None:
    """Each vector is shown by its head, and several by the cosines between them."""
    expected = """\
1  a
   +3.0000 +4.0000  (2 values, length 5.0000)
2  b
   +0.0000 +2.0000  (2 values, length 2.0000)

cosine  1      2
1       1.000  0.800
2       0.800  1.000
"""
    assert expected == as_vectors(result(v=[[3.0, 4.0], [0.0, 2.0]]), ["a", "b"])


def test_a_vector_of_zeros_has_no_direction() -> None:
    """Its cosines are 0 instead of a division by zero."""
    assert "2       0.000  0.000" in as_vectors(result(v=[[3.0, 4.0], [0.0, 0.0]]), ["a", "b"])


def test_what_is_neither_is_shown_as_arrays() -> None:
    """A model whose outputs are no scores still gets its answer printed."""
    given = result(v=np.array([[1, 2]]))
    assert as_arrays(given) == as_classes(given, ["x"]) == as_vectors(given, ["x"])


def test_bytes_are_text_everywhere() -> None:
    """What is not UTF-8 is escaped, in JSON and on the terminal."""
    given = result(t=np.array([b"a\xff", "é".encode()], dtype=object))
    assert json.loads(as_json(given))["outputs"]["t"]["data"] == ["a\\xff", "é"]
    assert as_arrays(given) == "m, version 1\nt: bytes [2]\n  ['a\\\\xff' 'é']\n"
