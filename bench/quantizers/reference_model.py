"""Makes a model to judge quantizers with from a small real one that was quantized before.

    reference_model.py SOURCE OUT [--seed N]

SOURCE is a Hugging Face folder of a Llama-shaped model in float32, as `mobilellm convert --dequantize` writes it; OUT is
the same model in bfloat16 on another basis. Weights that come from 4 bits lie on the grids of their old groups, and
quantizing them again would cost nearly nothing. So the channels change places, which leaves what the model computes as
it is, but gives every group of columns weights from many old groups:

- one permutation of the residual channels: embedding, norms, columns of q, k, v, gate and up, rows of o and down;
- a permutation of the MLP channels of each layer: rows of gate and up, columns of down;
- for each KV head a permutation of its value channels, then a rotation of pairs of them by random angles (rows of v,
  columns of o): a permutation alone cannot leave the columns of a head.

The same bytes for the same source and seed. Needs numpy.
"""
import argparse
import json
import math
import shutil
from pathlib import Path

import numpy as np


def read_safetensors(path):
    data = np.memmap(path, np.uint8, "r")
    size = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:8 + size].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise SystemExit(f"{path}: {name} is {entry['dtype']}, expected F32")
        begin, end = entry["data_offsets"]
        values = data[8 + size + begin:8 + size + end].view(np.float32)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def write_bf16_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        n_bytes = 2 * tensors[name].size
        header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [at, at + n_bytes]}
        at += n_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(tensors):
            bits = np.ascontiguousarray(tensors[name], np.float32).view(np.uint32)
            file.write(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes())


def mix_value_channels(v, o, config, random):
    """Rows of v_proj and columns of o_proj, of each KV head by its own permutation and rotation."""
    n_heads, n_kv, dim = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    hidden = config["hidden_size"]
    v = v.astype(np.float64).reshape(n_kv, dim, hidden).copy()
    o = o.astype(np.float64).reshape(hidden, n_kv, n_heads // n_kv, dim).copy()
    for head in range(n_kv):
        order = random.permutation(dim)
        a, b = order[:dim // 2], order[dim // 2:]
        angle = random.uniform(0, 2 * math.pi, dim // 2)
        cos, sin = np.cos(angle), np.sin(angle)
        v_a, v_b, o_a, o_b = v[head, a], v[head, b], o[:, head][..., a], o[:, head][..., b]
        v[head] = np.concatenate([cos[:, None] * v_a - sin[:, None] * v_b, sin[:, None] * v_a + cos[:, None] * v_b])
        o[:, head] = np.concatenate([cos * o_a - sin * o_b, sin * o_a + cos * o_b], axis=-1)
    return v.reshape(n_kv * dim, hidden), o.reshape(hidden, n_heads * dim)


def change_basis(tensors, config, seed):
    random = np.random.RandomState(seed)  # the generator whose streams never change
    channels = random.permutation(config["hidden_size"])
    out = {name: tensors[name][:, channels]
           for name in ("model.embed_tokens.weight", "lm_head.weight") if name in tensors}
    out["model.norm.weight"] = tensors["model.norm.weight"][channels]
    for layer in range(config["num_hidden_layers"]):
        def name_of(part, prefix=f"model.layers.{layer}."):
            return f"{prefix}{part}.weight"

        mlp = random.permutation(config["intermediate_size"])
        v, o = mix_value_channels(tensors[name_of("self_attn.v_proj")][:, channels],
                                  tensors[name_of("self_attn.o_proj")][channels], config, random)
        out[name_of("self_attn.v_proj")], out[name_of("self_attn.o_proj")] = v, o
        for part in ("self_attn.q_proj", "self_attn.k_proj"):
            out[name_of(part)] = tensors[name_of(part)][:, channels]
        for part in ("mlp.gate_proj", "mlp.up_proj"):
            out[name_of(part)] = tensors[name_of(part)][mlp][:, channels]
        out[name_of("mlp.down_proj")] = tensors[name_of("mlp.down_proj")][channels][:, mlp]
        for part in ("input_layernorm", "post_attention_layernorm"):
            out[name_of(part)] = tensors[name_of(part)][channels]
    if missing := set(tensors) - set(out):
        raise SystemExit(f"tensors of another architecture: {sorted(missing)[:3]}")
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = json.loads((options.source / "config.json").read_text())
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    tensors = change_basis(read_safetensors(options.source / "model.safetensors"), config, options.seed)
    options.out.mkdir(parents=True)
    for file in options.source.iterdir():
        if file.suffix in (".json", ".jinja") and file.name != "config.json":
            shutil.copy(file, options.out)
    write_bf16_safetensors(options.out / "model.safetensors", tensors)
    config["torch_dtype"] = "bfloat16"
    (options.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


if __name__ == "__main__":
    main()
