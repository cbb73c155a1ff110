"""Quantizes a model with mlx-lm's own code, on text of our choice. Runs in the environment that has mlx-lm.

    mlx_quantize.py MODEL OUT --method rtn|gptq|dynamic [...]

mlx-lm's commands fetch their calibration text; here it is a file, otherwise their functions run unchanged.
"""
import argparse
import json
from pathlib import Path

import mlx.core as mx
from mlx_lm import convert
from mlx_lm.quant import dynamic_quant, gptq
from mlx_lm.utils import load, quantize_model, save


def calibration_data(tokenizer, options):
    """Chunks as mlx_lm.quant.utils.load_data() makes them: [samples, 512], in random order."""
    tokens = mx.array(tokenizer.encode(options.calibration.read_text(encoding="utf-8")))
    tokens = tokens[: tokens.size // 512 * 512].reshape(-1, 512)
    mx.random.seed(options.seed)
    return tokens[mx.random.permutation(tokens.shape[0])[: options.samples]]


def run_rtn(options):
    extra = {"quant_predicate": options.recipe} if options.recipe else {}
    convert(str(options.model), str(options.out), quantize=True, q_bits=options.bits,
            q_group_size=options.group_size, **extra)


def run_gptq(options):
    model, tokenizer, config = load(str(options.model), lazy=True, return_config=True)
    # In bf16 its sums of products of inputs are too coarse to invert: the result is noise (KL 7).
    dtype = model.model.norm.weight.dtype
    model.set_dtype(mx.float32)
    data = calibration_data(tokenizer, options)
    model, config["quantization"] = gptq.gptq_quantize(model, data, options.bits, options.group_size,
                                                       options.fallback_bits, options.group_size)
    model.set_dtype(dtype)  # Scales and biases as usual.
    save(str(options.out), str(options.model), model, tokenizer, config)


def sensitivities(model, tokenizer, options):
    """Measured once for a pair of bit widths, kept beside the output."""
    file = options.out.parent / f"mlx-sensitivities-{options.bits}-{options.high_bits}.json"
    if not file.is_file():
        found = dynamic_quant.estimate_sensitivities(model, calibration_data(tokenizer, options), options.bits,
                                                     options.group_size, options.high_bits, options.group_size)
        file.write_text(json.dumps(found))
    return dict(json.loads(file.read_text()))


def run_dynamic(options):
    model, tokenizer, config = load(str(options.model), return_config=True)
    found = sensitivities(model, tokenizer, options)
    group = options.group_size
    threshold = dynamic_quant.estimate_threshold(model, found, options.target_bpw, options.bits, group,
                                                 options.high_bits, group)

    def predicate(path, module):
        if not hasattr(module, "to_quantized"):
            return False
        return {"bits": options.high_bits, "group_size": group} if found[path] > threshold else True

    model, config = quantize_model(model, config, group_size=group, bits=options.bits, quant_predicate=predicate)
    save(str(options.out), str(options.model), model, tokenizer, config)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--method", choices=["rtn", "gptq", "dynamic"], default="rtn")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--recipe", default="", help="mixed_3_4 and the like")
    parser.add_argument("--fallback-bits", type=int, default=4, help="of what GPTQ leaves, the embedding")
    parser.add_argument("--high-bits", type=int, default=5)
    parser.add_argument("--target-bpw", type=float, default=5.0)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--samples", type=int, default=32, help="chunks of 512 tokens")
    parser.add_argument("--seed", type=int, default=123)
    options = parser.parse_args()
    mx.set_default_device(mx.cpu)
    {"rtn": run_rtn, "gptq": run_gptq, "dynamic": run_dynamic}[options.method](options)


if __name__ == "__main__":
    main()
