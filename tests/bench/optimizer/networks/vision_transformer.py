"""ViT-S/16 (Dosovitskiy et al., An Image is Worth 16×16 Words, 2020): 12 layers of 384, 6 heads."""

from __future__ import annotations

import torch
from torch import nn

WIDTH, LAYERS, HEADS, PATCH = 384, 12, 6, 16


class Block(nn.Module):
    """Attention and a perceptron, each normalized before and added."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens after the block."""
        batch, count, _ = x.shape
        q, k, v = self.qkv(self.before(x)).reshape(batch, count, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, count, WIDTH))
        found: torch.Tensor = x + self.perceptron(self.between(x))
        return found


class VisionTransformer(nn.Module):
    """Takes float32 (batch, 3, 224, 224); gives logits of 1000 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.first = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.places = nn.Parameter(torch.randn(1, (224 // PATCH) ** 2 + 1, WIDTH) * 0.02)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, 1000)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (batch, 1000)."""
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.first.expand(image.shape[0], -1, -1), tokens), 1) + self.places
        logits: torch.Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


def vit_small(_images: torch.Tensor) -> nn.Module:
    """Return ViT-S/16."""
    return VisionTransformer().eval()
