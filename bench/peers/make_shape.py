"""Writes a GGUF file of plain-Llama shape with random weights. Needs the packages gguf and numpy.

    make_shape.py SHAPE TOKENIZER.gguf OUT.gguf

The tied embedding has 128,256 rows; the tokenizer is that of the other file, filled up with joined words so that a
start has as much to read as with a real vocabulary of this size.
"""
import sys

import gguf
import numpy as np

VOCABULARY = 128256
# layers, d_model, heads, key/value heads, head_dim, d_ff
SHAPES = {
    "140m": (15, 576, 9, 3, 64, 2048),
    "360m": (15, 1024, 16, 4, 64, 4096),
    "950m": (22, 1536, 24, 6, 64, 6144),
}


def texts(field):
    return [bytes(field.parts[i]).decode("utf-8") for i in field.data]


def longer_vocabulary(fields):
    """Words, their types and merges, with enough joins of two words to reach the size."""
    words = texts(fields["tokenizer.ggml.tokens"])
    merges = texts(fields["tokenizer.ggml.merges"])
    types_field = fields["tokenizer.ggml.token_type"]
    types = [int(types_field.parts[i][0]) for i in types_field.data]
    known = set(words)
    heads = [word for word in words[300:2000] if word.startswith("\u0120")]
    tails = [word for word in words[300:3000] if word.isascii() and word.isalpha()]
    for head in heads:
        for tail in tails:
            if len(words) == VOCABULARY:
                return words, types, merges
            if head + tail not in known:
                known.add(head + tail)
                words.append(head + tail)
                types.append(int(gguf.TokenType.NORMAL))
                merges.append(f"{head} {tail}")
    raise SystemExit("make_shape: the tokenizer has too few words to join")


def write(shape, tokenizer, out):
    n_layers, d_model, n_heads, n_kv, head_dim, d_ff = SHAPES[shape]
    fields = gguf.GGUFReader(tokenizer).fields
    words, types, merges = longer_vocabulary(fields)
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name(f"random weights, {shape}")
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_F16))
    writer.add_context_length(32768)
    writer.add_embedding_length(d_model)
    writer.add_block_count(n_layers)
    writer.add_feed_forward_length(d_ff)
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_kv)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(500000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(texts(fields["tokenizer.ggml.pre"])[0])
    writer.add_token_list(words)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    for key in ("bos", "eos", "unknown", "padding"):
        name = f"tokenizer.ggml.{key}_token_id"
        if name in fields:
            writer.add_uint32(name, int(fields[name].parts[fields[name].data[0]][0]))

    random = np.random.default_rng(1)

    def matrix(name, rows, cols):
        values = random.standard_normal((rows, cols), dtype=np.float32)
        writer.add_tensor(name, (values * 0.02).astype(np.float16))

    ones = np.ones(d_model, np.float32)
    matrix("token_embd.weight", VOCABULARY, d_model)
    writer.add_tensor("output_norm.weight", ones)
    for layer in range(n_layers):
        name = f"blk.{layer}."
        writer.add_tensor(name + "attn_norm.weight", ones)
        writer.add_tensor(name + "ffn_norm.weight", ones)
        matrix(name + "attn_q.weight", n_heads * head_dim, d_model)
        matrix(name + "attn_k.weight", n_kv * head_dim, d_model)
        matrix(name + "attn_v.weight", n_kv * head_dim, d_model)
        matrix(name + "attn_output.weight", d_model, n_heads * head_dim)
        matrix(name + "ffn_gate.weight", d_ff, d_model)
        matrix(name + "ffn_up.weight", d_ff, d_model)
        matrix(name + "ffn_down.weight", d_model, d_ff)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(*sys.argv[1:])
