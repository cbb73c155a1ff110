"""One test with OpenVINO GenAI: loads a GGUF file and prints {"tps": [...]} as its last line.

Its defaults are its best on the CPUs tried: bf16 with dynamic quantisation of activations to int8, keys and values u8.
"""
import argparse
import json
import time

import numpy as np
import openvino
import openvino_genai as genai


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--kind", default="decode")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--shared", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--exact", action="store_true", help="activations in f32")
    options = parser.parse_args()

    settings = {}
    if options.threads is not None:
        settings = {"INFERENCE_NUM_THREADS": options.threads, "ENABLE_CPU_PINNING": True}
    if options.exact:
        settings.update(INFERENCE_PRECISION_HINT="f32", DYNAMIC_QUANTIZATION_GROUP_SIZE=0)
    if options.batch > 1:
        scheduler = genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.max_num_seqs = options.batch
        scheduler.cache_size = 2  # GB
        settings["scheduler_config"] = scheduler
    pipeline = genai.LLMPipeline(options.model, "CPU", **settings)
    random = np.random.default_rng(0)

    def generate(ids, n_new):
        config = genai.GenerationConfig()
        config.max_new_tokens = n_new
        config.min_new_tokens = n_new
        config.ignore_eos = True
        config.do_sample = False
        ids = ids.astype(np.int64)
        inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        start = time.perf_counter()
        metrics = pipeline.generate(inputs, config).perf_metrics
        return time.perf_counter() - start, metrics

    def prompt(rows, length):
        return random.integers(1000, 40000, (rows, length))

    def shared_prompt(prefix):
        return np.concatenate([np.repeat(prefix, options.batch, 0), prompt(options.batch, 1)], 1)

    rates = []
    if options.kind == "start":
        generate(prompt(1, options.tokens), 1)
    elif options.batch > 1:
        # The prefix is in the cache after the first run; the difference of two lengths is pure decoding.
        prefix = prompt(1, options.shared)
        generate(shared_prompt(prefix), 2)
        for _ in range(options.repeat):
            short, _ = generate(shared_prompt(prefix), 1)
            long, _ = generate(shared_prompt(prefix), options.tokens + 1)
            rates.append(options.batch * options.tokens / (long - short))
    else:
        generate(prompt(1, 512 if options.kind == "prefill" else 8), 4)
        for _ in range(options.repeat):
            if options.kind == "prefill":
                _, metrics = generate(prompt(1, options.tokens), 1)
                rates.append(options.tokens / metrics.get_ttft().mean * 1e3)
            else:
                _, metrics = generate(prompt(1, max(options.depth, 4)), options.tokens + 1)
                rates.append(1e3 / metrics.get_tpot().mean)
    print(json.dumps({"tps": rates}), flush=True)


if __name__ == "__main__":
    main()
