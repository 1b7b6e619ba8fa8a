"""Peer of the learning benchmark: PyTorch with Opacus, and transformers, answer one JSON request a line.

A request names an arm and its settings; the arm is made once and kept. The answer is the seconds of each of `steps` steps.
"""

import json
import sys
import time
import warnings

import torch
from torch import nn
from torch.nn import functional as F

warnings.filterwarnings("ignore")


class Lora(nn.Module):
    """A frozen linear layer with a trained product of two low-rank ones beside it."""

    def __init__(self, inputs, outputs, rank, scale):
        super().__init__()
        self.frozen = nn.Linear(inputs, outputs, bias=False).requires_grad_(False)
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)
        self.scale = scale

    def forward(self, x):
        return self.frozen(x) + self.scale * self.up(self.down(x))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads, self.width = c["heads"], c["kvHeads"], c["dim"] // c["heads"]
        kv = self.kv_heads * self.width

        def linear(name, inputs, outputs):
            if name in c["targets"]:
                return Lora(inputs, outputs, c["rank"], c["alpha"] / c["rank"])
            return nn.Linear(inputs, outputs, bias=False)

        dim, hidden = c["dim"], c["hidden"]
        self.q, self.k, self.v = linear("q", dim, dim), linear("k", dim, kv), linear("v", dim, kv)
        self.o, self.gate, self.up = linear("o", dim, dim), linear("gate", dim, hidden), linear("up", dim, hidden)
        self.down = linear("down", hidden, dim)
        self.attention_norm, self.feed_forward_norm = nn.RMSNorm(dim, eps=c["rmsEps"]), nn.RMSNorm(dim, eps=c["rmsEps"])

    def forward(self, x, cos, sin):
        batch, time, dim = x.shape

        def heads(flat, count):
            return flat.view(batch, time, count, self.width).transpose(1, 2)

        def rotate(y):
            first, second = y.chunk(2, -1)
            return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

        h = self.attention_norm(x)
        q, k, v = rotate(heads(self.q(h), self.heads)), rotate(heads(self.k(h), self.kv_heads)), heads(self.v(h), self.kv_heads)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        x = x + self.o(mixed.transpose(1, 2).reshape(batch, time, dim))
        h = self.feed_forward_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Decoder(nn.Module):
    """The decoder of learning/decoder: RMSNorm, rotary positions, SwiGLU."""

    def __init__(self, c):
        super().__init__()
        self.embedding = nn.Embedding(c["vocab"], c["dim"])
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = nn.RMSNorm(c["dim"], eps=c["rmsEps"])
        self.head = nn.Linear(c["dim"], c["vocab"], bias=False)
        if c["tied"]:
            self.head.weight = self.embedding.weight
        half = c["dim"] // c["heads"] // 2
        frequencies = c["ropeTheta"] ** (-torch.arange(half) / half)
        angles = torch.arange(c["time"])[:, None] * frequencies
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        if c["targets"]:
            trained = [p for m in self.modules() if isinstance(m, Lora) for p in (m.down.weight, m.up.weight)]
            self.requires_grad_(False)
            for parameter in trained:
                parameter.requires_grad_(True)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x))


class WordCnn(nn.Module):
    """Kim 2014: embedding, one convolution for each width, ReLU, maximum over time, linear layer."""

    def __init__(self, c):
        super().__init__()
        self.embedding = nn.Embedding(c["buckets"], c["embedding"], padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(c["embedding"], c["filters"], width) for width in c["widths"])
        self.dense = nn.Linear(c["filters"] * len(c["widths"]), c["classes"])

    def forward(self, words):
        x = self.embedding(words).transpose(1, 2)
        return self.dense(torch.cat([F.relu(convolution(x)).amax(-1) for convolution in self.convolutions], 1))


def trainer(model, method, inputs, targets, physical):
    """A function that makes one step on the whole batch: forward, backward, clipping, noise, Adam."""
    from opacus.grad_sample import GradSampleModule
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer
    from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    batch = inputs.shape[0]
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    pieces = list(zip(inputs.split(physical), targets.split(physical)))
    settings = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, "expected_batch_size": batch}

    if method == "plain":

        def step():
            adam.zero_grad()
            for x, y in pieces:
                logits = model(x)
                (F.cross_entropy(logits.flatten(0, -2), y.flatten()) * (len(x) / batch)).backward()
            adam.step()

    elif method == "hooks":
        module = GradSampleModule(model, batch_first=True, loss_reduction="mean")
        optimizer = DPOptimizer(adam, **settings)

        def step():
            for index, (x, y) in enumerate(pieces):
                optimizer.signal_skip_step(do_skip=index + 1 < len(pieces))
                optimizer.zero_grad()
                logits = module(x)
                F.cross_entropy(logits.flatten(0, -2), y.flatten()).backward()
                optimizer.step()

    else:
        module = GradSampleModuleFastGradientClipping(
            model, batch_first=True, loss_reduction="mean", max_grad_norm=1.0, use_ghost_clipping=True
        )
        optimizer = DPOptimizerFastGradientClipping(adam, **settings)
        criterion = DPLossFastGradientClipping(module, optimizer, nn.CrossEntropyLoss(reduction="mean"))

        def step():
            for index, (x, y) in enumerate(pieces):
                optimizer.signal_skip_step(do_skip=index + 1 < len(pieces))
                optimizer.zero_grad()
                logits = module(x)
                shape = {"shape": logits.shape} if logits.dim() == 3 else {}
                criterion(logits.flatten(0, -2), y.flatten(), **shape).backward()
                optimizer.step()

    return step


def decoder_arm(request):
    c = request["model"]
    shape = (request["batch"], c["time"])
    tokens, targets = torch.randint(0, c["vocab"], shape), torch.randint(0, c["vocab"], shape)
    return trainer(Decoder(c), request["method"], tokens, targets, request["physical"])


def word_cnn_arm(request):
    """Texts have the lengths that are given; shorter ones are padded."""
    c, lengths = request["model"], request["lengths"]
    words = torch.randint(1, c["buckets"], (len(lengths), max(lengths)))
    words[torch.arange(max(lengths))[None, :] >= torch.tensor(lengths)[:, None]] = 0
    targets = torch.randint(0, c["classes"], (len(lengths),))
    return trainer(WordCnn(c), request["method"], words, targets, request["physical"])


def sampling_arm(request):
    from transformers import LlamaConfig, LlamaForCausalLM

    c = request["model"]
    config = LlamaConfig(
        vocab_size=c["vocab"],
        hidden_size=c["dim"],
        intermediate_size=c["hidden"],
        num_hidden_layers=c["layers"],
        num_attention_heads=c["heads"],
        num_key_value_heads=c["kvHeads"],
        max_position_embeddings=c["context"],
        rope_theta=c["ropeTheta"],
        rms_norm_eps=c["rmsEps"],
        tie_word_embeddings=c["tied"],
    )
    model = (LlamaForCausalLM.from_pretrained(request["folder"]) if request["folder"] else LlamaForCausalLM(config)).eval()
    # Texts don't end early: each has all its tokens.
    model.generation_config.eos_token_id = None
    first = torch.full((request["texts"], 1), request["first"])
    settings = {"do_sample": True, "temperature": 1.0, "top_k": 0, "use_cache": True, "pad_token_id": request["first"] + 1}

    def sample():
        with torch.inference_mode():
            texts = model.generate(
                first, attention_mask=torch.ones_like(first), max_new_tokens=request["tokens"], **settings
            )
        assert texts.shape == (request["texts"], 1 + request["tokens"])

    return sample


arms = {"decoder": decoder_arm, "word-cnn": word_cnn_arm, "sampling": sampling_arm}
made = {}


def peak_bytes():
    """Not the resource usage: that begins with what the parent held when it started this process."""
    with open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith("VmHWM:")).split()[1])


def answer(request):
    steps = request.pop("steps")
    key = json.dumps(request, sort_keys=True)
    if key not in made:
        torch.manual_seed(0)
        made[key] = arms[request["arm"]](request)
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        made[key]()
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "peakBytes": peak_bytes()}


print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
