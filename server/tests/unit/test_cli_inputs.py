"""Inputs on the command line: what they become, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from jitney.cli.arrays import cast, read_inputs
from jitney.cli.images import read_images
from jitney.cli.texts import read_texts
from jitney.datatypes import DataType
from jitney.errors import ConfigError
from jitney_client import Bfloat16
from jitney_client.protocol import inference

if TYPE_CHECKING:
    from pathlib import Path


def metadata(**inputs: tuple[str, list[int]]) -> inference.ModelMetadataResponse:
    """Return the metadata of a model with these inputs."""
    reply = inference.ModelMetadataResponse(name="m")
    for name, (datatype, shape) in inputs.items():
        reply.inputs.add(name=name, datatype=datatype, shape=shape)
    return reply


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["y=1"], "expected NAME=VALUE with NAME one of x, b"),
        (["x"], "expected NAME=VALUE"),
        (["x=1", "x=2"], "--input x: given twice"),
        (["x=[[1], [1, 2]]"], "--input x: expected JSON such as"),
        (["x=nothing"], "--input x: expected JSON such as"),
        (["x=[1.5]"], "--input x: the model takes UINT8, got float64"),
        (["x=[true]"], "--input x: the model takes UINT8, got bool"),
        (["x=[256]"], "--input x: UINT8 holds 0 to 255, got others"),
        (["x=[-1]"], "--input x: UINT8 holds 0 to 255, got others"),
        (["b=[1]"], "--input b: the model takes BYTES, got int64"),
        (["x=@none.npy"], "--input x: none.npy cannot be read"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(given: list[str], expected: str) -> None:
    """Nothing is rounded, cut or guessed on its way to the model."""
    model = metadata(x=("UINT8", [-1]), b=("BYTES", [-1]))
    with pytest.raises(ConfigError) as caught:
        read_inputs(given, model)
    assert expected in str(caught.value)


def test_a_file_of_objects_is_refused(tmp_path: Path) -> None:
    """Objects would have to be unpickled, which runs code."""
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="is not an array of NumPy"):
        read_inputs([f"x=@{tmp_path}/x.npy"], metadata(x=("FP32", [-1])))


def test_one_file_has_all_inputs(tmp_path: Path) -> None:
    """An archive of NumPy's gives every input that it has an array of, and others may be added."""
    x, z = np.arange(3, dtype=np.uint8), np.array([b"a"])
    np.savez(tmp_path / "all.npz", x=x, z=z, expected=np.zeros(3))
    model = metadata(x=("UINT8", [-1]), y=("BF16", [-1]), z=("BYTES", [-1]))

    for text in (f"{tmp_path}/all.npz", f"@{tmp_path}/all.npz"):
        inputs = read_inputs([text, "y=[1]"], model)
        assert ["x", "z", "y"] == list(inputs)
        assert x.tolist() == inputs["x"].tolist()
        assert "Bfloat16" == type(inputs["y"]).__name__


def test_one_input_is_taken_out_of_a_file(tmp_path: Path) -> None:
    """Behind the name of an input, an archive gives the array of that name."""
    np.savez(tmp_path / "all.npz", x=np.ones(2, np.uint8), y=np.zeros(2))
    model = metadata(x=("UINT8", [-1]), b=("BYTES", [-1]))

    assert ["x"] == list(read_inputs([f"x=@{tmp_path}/all.npz"], model))
    with pytest.raises(ConfigError, match="has no array of that name; it has x, y"):
        read_inputs([f"b=@{tmp_path}/all.npz"], model)


def test_a_file_with_a_password_is_refused(tmp_path: Path) -> None:
    """As are others that the library for archives does not read."""
    np.savez(tmp_path / "x.npz", x=np.zeros(2))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[data.index(b"PK\3\4") + 6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(ConfigError, match=r"is not an array of NumPy: .* is encrypted"):
        read_inputs([f"{tmp_path}/x.npz"], metadata(x=("UINT8", [-1])))


def test_a_file_without_inputs_is_refused(tmp_path: Path) -> None:
    """Nor may two files have the same one, and a file is not two at once."""
    np.savez(tmp_path / "none.npz", other=np.zeros(2))
    np.savez(tmp_path / "x.npz", x=np.zeros(2))
    (tmp_path / "broken.npz").write_bytes(b"PK no archive")
    model = metadata(x=("UINT8", [-1]), b=("BYTES", [-1]))
    for given, expected in (
        (["none.npz"], "none of its arrays is called x or b"),
        (["x.npz", "x.npz"], "--input x: given twice"),
        (["broken.npz"], "is not an array of NumPy"),
        (["gone.npz"], "cannot be read"),
    ):
        with pytest.raises(ConfigError) as caught:
            read_inputs([f"{tmp_path}/{name}" for name in given], model)
        assert expected in str(caught.value)


@pytest.mark.parametrize("datatype", [d for d in DataType if d.is_integer])
def test_the_limits_of_every_integer_are_kept(datatype: DataType) -> None:
    """The least and the largest value pass unchanged; one more does not."""
    limits = np.iinfo(datatype.value.lower())
    array = cast(np.array([limits.min, 0]), datatype, "x")
    assert [limits.min, 0] == array.tolist()
    largest = np.array([limits.max], dtype=datatype.value.lower())
    assert [limits.max] == cast(largest, datatype, "x").tolist()
    with pytest.raises(ConfigError):
        cast(np.array([limits.max + 1]), datatype, "x")


def test_texts_and_bfloat16_become_what_the_client_sends() -> None:
    """Texts are objects, and BF16 is wrapped."""
    inputs = read_inputs(
        ['b=["a\\u00e9"]', "h=[1.5]"], metadata(b=("BYTES", [-1]), h=("BF16", [-1]))
    )
    assert isinstance(inputs["b"], np.ndarray)
    assert ["aé"] == inputs["b"].tolist()
    assert isinstance(inputs["h"], Bfloat16)


def test_an_enlarged_image_comes_back_exactly(tmp_path: Path) -> None:
    """Each pixel of a digit that was enlarged 16 times is its mean again, white being 1."""
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    large = Image.fromarray(pixels).resize((128, 128), Image.Resampling.NEAREST)
    large.save(tmp_path / "x.png")
    model = metadata(image=("FP32", [-1, 1, 8, 8]))

    images = read_images([tmp_path / "x.png"] * 2, model)["image"]

    expected = (pixels.astype(np.float32) / 255)[None, None].repeat(2, 0)
    np.testing.assert_array_equal(expected, images)
    inverted = read_images([tmp_path / "x.png"], model, invert=True, white=16)["image"]
    np.testing.assert_array_equal((1 - expected[:1]) * np.float32(16), inverted)


def test_coloured_images_have_channels_first(tmp_path: Path) -> None:
    """A model that takes any size of bytes gets the image's own size and values."""
    Image.new("RGB", (3, 2), (10, 20, 30)).save(tmp_path / "x.png")
    images = read_images([tmp_path / "x.png"], metadata(image=("UINT8", [-1, 3, -1, -1])))["image"]
    assert isinstance(images, np.ndarray)
    assert (1, 3, 2, 3) == images.shape
    assert [10, 20, 30] == images[0, :, 0, 0].tolist()


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (metadata(x=("FP32", [-1, 2, 8, 8])), "the model does not take images"),
        (metadata(x=("FP32", [-1, 8])), "the model does not take images"),
        (metadata(x=("FP32", [-1, 1, 8, 8]), y=("FP32", [-1])), "the model does not take images"),
        (metadata(x=("FP32", [-1, 1, 8, 8])), "x.png: not an image"),
    ],
)
def test_what_is_no_image_is_refused(
    tmp_path: Path, model: inference.ModelMetadataResponse, expected: str
) -> None:
    """The text says whether the model or the file is to blame."""
    (tmp_path / "x.png").write_bytes(b"none")
    with pytest.raises(ConfigError, match=expected):
        read_images([tmp_path / "x.png"], model)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"P5 20000 20000 255\n", "x.png: too large: "),
        (b"P5 12x 8 255\n", "x.png: not an image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x0dI\0DR" + bytes(17), "x.png: not an image"),
    ],
)
def test_a_damaged_image_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    """Whichever way the library says so."""
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        read_images([tmp_path / "x.png"], metadata(x=("FP32", [-1, 1, 8, 8])))


def test_texts_become_tokens_padded_to_the_longest(tmp_path: Path) -> None:
    """Whatever padding the file asks for, the batch is as long as its longest text."""
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "a": 1, "bus": 2}, unk_token="[PAD]"))  # noqa: S106  # no secret
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_padding(length=128)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    model = metadata(attention_mask=("INT64", [-1, -1]), input_ids=("INT32", [-1, -1]))

    tokens = read_texts(["a bus", "bus"], model, tmp_path / "tokenizer.json")

    expected = {
        "attention_mask": np.array([[1, 1], [1, 0]], np.int64),
        "input_ids": np.array([[1, 2], [2, 0]], np.int32),
    }
    np.testing.assert_equal(expected, tokens)


def test_texts_go_as_they_are_to_a_model_that_takes_bytes(tmp_path: Path) -> None:
    """No tokenizer is needed, or opened, for such a model."""
    texts = read_texts(["a", "b"], metadata(x=("BYTES", [-1, 1])), tmp_path / "none")["x"]
    assert isinstance(texts, np.ndarray)
    assert [["a"], ["b"]] == texts.tolist()


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    """The text says which flag names the file."""
    model = metadata(input_ids=("INT64", [-1, -1]))
    with pytest.raises(ConfigError, match=r"No such file or directory; name the tokenizer\.json"):
        read_texts(["a"], model, tmp_path / "none")
