"""Architecture files of small real networks, as users write them."""

HEAD = "import torch\nfrom torch import nn\n\n"

CNN = (
    HEAD
    + """
class Net(nn.Module):
    def __init__(self, num_classes, width):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


@architecture("SmallCNN")
def build(num_classes: int = 10, width: int = 4):
    return Net(num_classes, width)
"""
)

TIED_MULTI_OUTPUT = (
    HEAD
    + '''
class Net(nn.Module):
    """Two inputs, a nested dictionary of outputs, one weight used three times."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.project = nn.Linear(8, 11, bias=False)
        self.project.weight = self.embed.weight

    def forward(self, ids, scale):
        hidden = self.embed(ids) * scale[:, :, None]
        return {"logits": self.project(hidden), "aux": (hidden.mean(1), [self.project(hidden.sum(1)), None])}


@architecture("Tied")
def build():
    return Net()
'''
)

LSTM = (
    HEAD
    + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


@architecture("Lstm")
def build():
    return Net()
"""
)

VIT = (
    HEAD
    + """
class Net(nn.Module):
    def __init__(self, dim=16, heads=2, patch=4, size=8):
        super().__init__()
        self.patch = nn.Conv2d(3, dim, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, dim))
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.heads = heads

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.position
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, dim))
        return (x + self.mlp(self.norm(x)))[:, 0]


@architecture("Vit")
def build():
    return Net()
"""
)

MLP = (
    HEAD
    + """
@architecture("Mlp")
def build(sizes=(8, 16, 4)):
    layers = []
    for inside, outside in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inside, outside), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
"""
)

FIXED_BATCH = (
    HEAD
    + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x.reshape(2, -1) * self.weight


@architecture("Fixed")
def build():
    return Net()
"""
)

NO_ONNX = (
    HEAD
    + """
class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x) + 1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.block = nn.Sequential(nn.ReLU(), Bessel())

    def forward(self, x):
        return self.block(self.linear(x))


@architecture("NoOnnx")
def build():
    return Net()
"""
)

BRANCH = (
    HEAD
    + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.weight if x.sum() > 0 else x


@architecture("Branch")
def build():
    return Net()
"""
)

UNROLLED = (
    HEAD
    + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        state, steps = torch.zeros_like(x[:, 0]), []
        for step in range(x.shape[1]):
            state = state * self.weight + x[:, step]
            steps.append(state)
        return torch.stack(steps, 1)


@architecture("Unrolled")
def build():
    return Net()
"""
)
