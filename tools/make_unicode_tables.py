#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_tables.cpp from Python's character database.

Unicode 16 is what the reference tokenizer's regular expressions know. Python 3.14 has it; for an older Python:
    pip install unicodedata2==16.0.0
    python tools/make_unicode_tables.py > src/tokenizer/unicode_tables.cpp
"""
import sys

try:
    import unicodedata2 as ud
except ImportError:
    import unicodedata as ud

WANTED = "16.0.0"
BLOCK = 256
LETTER, NUMBER, MARK, SPACE, PUNCTUATION, SYMBOL, WORD_OTHER, NFC_UNSAFE = (1 << i for i in range(8))
# \s of the reference: White_Space, without the separators U+001C..U+001F that Python's isspace() counts.
SPACES = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
# Alphabetic symbols (Other_Alphabetic that are neither letters nor marks) and joiners: \w beyond L, M, Nd, Nl, Pc.
WORD_SYMBOLS = {*range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A), *range(0x1F170, 0x1F18A), 0x200C, 0x200D}
# The reference normalizes by Unicode 9: characters that came later neither decompose nor combine, whatever today's data say.
# First marks, then characters with decompositions; ranges may hold characters that this does not concern.
LATE = [
    (0x7FD, 0x7FD), (0x897, 0x89F), (0x8CA, 0x8D3), (0x9FE, 0x9FE), (0xAFA, 0xAFF), (0xB55, 0xB55), (0xC04, 0xC04),
    (0xC3C, 0xC3C), (0xCF3, 0xD00), (0xD3B, 0xD3C), (0xD81, 0xD81), (0xEBA, 0xEBA), (0xECE, 0xECE), (0x1715,
    0x1715), (0x180F, 0x180F), (0x1ABF, 0x1ACE), (0x1CF7, 0x1CF7), (0x1DF6, 0x1DFA), (0xA82C, 0xA82C), (0xA8FF,
    0xA8FF), (0x10D24, 0x10D27), (0x10D69, 0x10D6D), (0x10EAB, 0x10EAC), (0x10EFC, 0x10EFF), (0x10F46, 0x10F50),
    (0x10F82, 0x10F85), (0x11070, 0x11074), (0x110C2, 0x110C2), (0x11145, 0x11146), (0x111C9, 0x111C9), (0x111CE,
    0x111CF), (0x11241, 0x11241), (0x1133B, 0x1133B), (0x113B8, 0x113E2), (0x1145E, 0x1145E), (0x1182C, 0x1183A),
    (0x11930, 0x11943), (0x119D1, 0x11A0A), (0x11A33, 0x11A5B), (0x11A8A, 0x11A99), (0x11D31, 0x11D47), (0x11D8A,
    0x11D97), (0x11EF3, 0x11F03), (0x11F34, 0x11F5A), (0x13440, 0x13455), (0x1611E, 0x1612F), (0x16F4F, 0x16F4F),
    (0x16F7F, 0x16F87), (0x16FE4, 0x16FF1), (0x1CF00, 0x1CF46), (0x1E08F, 0x1E08F), (0x1E130, 0x1E136), (0x1E2AE,
    0x1E2AE), (0x1E2EC, 0x1E2EF), (0x1E4EC, 0x1E4EF), (0x1E5EE, 0x1E5EF),
    (0x32FF, 0x32FF), (0xA7F2, 0xA7F4), (0xAB69, 0xAB69), (0x105C9, 0x105E4), (0x10781, 0x107BA), (0x11383,
    0x113C8), (0x11938, 0x11938), (0x16121, 0x16128), (0x16D68, 0x16D6A), (0x1CCD6, 0x1CCF9), (0x1E030, 0x1E06D),
    (0x1F16C, 0x1F16C), (0x1FBF0, 0x1FBF9),
]
HANGUL = range(0xAC00, 0xD7A4)


def code_points():
    return (c for c in range(0x110000) if not 0xD800 <= c < 0xE000)


late = {c for first, last in LATE for c in range(first, last + 1)}


def combining(c):
    return 0 if c in late else ud.combining(chr(c))


def normalized(form, c):
    return chr(c) if c in late else ud.normalize(form, chr(c))


def classes(c):
    ch = chr(c)
    category = ud.category(ch)
    bits = {"L": LETTER, "N": NUMBER, "M": MARK, "P": PUNCTUATION, "S": SYMBOL}.get(category[0], 0)
    if c in SPACES:
        bits |= SPACE
    if category in ("Nd", "Nl", "Pc") or c in WORD_SYMBOLS:
        bits |= WORD_OTHER
    return bits


def two_stage(values, default):
    blocks, index = {}, []
    for start in range(0, 0x110000, BLOCK):
        block = tuple(values.get(c, default) for c in range(start, start + BLOCK))
        index.append(blocks.setdefault(block, len(blocks)))
    return index, [v for block in blocks for v in block]


def emit(name, ctype, values, per_line=24):
    print(f"const {ctype} {name}[{len(values)}] = {{")
    for i in range(0, len(values), per_line):
        print("    " + ", ".join(str(v) for v in values[i:i + per_line]) + ",")
    print("};\n")


def main():
    if ud.unidata_version != WANTED:
        sys.exit(f"this database is Unicode {ud.unidata_version}, wanted {WANTED}")
    class_of = {c: classes(c) for c in code_points()}

    pairs = []  # canonical compositions
    for c in code_points():
        decomposition = ud.decomposition(chr(c))
        if c not in late and decomposition and not decomposition.startswith("<"):
            parts = [int(p, 16) for p in decomposition.split()]
            if len(parts) == 2 and ud.normalize("NFC", chr(c)) == chr(c):
                pairs.append((parts[0], parts[1], c))
    seconds = {second for _, second, _ in pairs} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))

    pool, records, record_of, record_ids = [], [(0, 0, 0, 0)], {}, {(0, 0, 0, 0): 0}
    for c in code_points():
        ch = chr(c)
        ccc = combining(c)
        if ccc or normalized("NFC", c) != ch or c in seconds:
            class_of[c] |= NFC_UNSAFE
        if c in HANGUL:
            continue
        canonical = normalized("NFD", c)
        compatible = normalized("NFKD", c)
        if not ccc and canonical == ch and compatible == ch:
            continue
        spans = []
        for text in (canonical, compatible):
            if text == ch:
                spans.append((0, 0))
            elif spans and text == canonical:
                spans.append(spans[0])
            else:
                spans.append((len(pool), len(text)))
                pool.extend(map(ord, text))
        (canonical_start, canonical_length), (compatible_start, compatible_length) = spans
        record = (canonical_start << 5 | canonical_length, compatible_start << 5 | compatible_length, ccc, 0)
        record_of[c] = record_ids.setdefault(record, len(records))
        if record_of[c] == len(records):
            records.append(record)

    lower = [(c, ord(chr(c).lower())) for c in code_points() if c >= 128 and len(chr(c).lower()) == 1 and chr(c).lower() != chr(c)]

    print(f"// Generated by tools/make_unicode_tables.py from Unicode {ud.unidata_version}; do not edit.")
    print('#include "tokenizer/unicode_tables.h"\n\nnamespace mobilellm::unicode {\n\n// clang-format off')
    index, data = two_stage(class_of, 0)
    emit("kClassIndex", "uint8_t", index)
    emit("kClassData", "uint8_t", data)
    index, data = two_stage(record_of, 0)
    emit("kNormalIndex", "uint8_t", index)
    emit("kNormalData", "uint16_t", data)
    emit("kNormalRecords", "NormalRecord", [f"{{{a}, {b}, {c}}}" for a, b, c, _ in records], 6)
    emit("kDecomposed", "char32_t", pool, 16)
    emit("kCompositions", "Composition", [f"{{{a}, {b}, {c}}}" for a, b, c in sorted(pairs)], 6)
    print(f"const size_t kCompositionCount = {len(pairs)};\n")
    emit("kLowerCase", "CasePair", [f"{{{a}, {b}}}" for a, b in lower], 8)
    print(f"const size_t kLowerCaseCount = {len(lower)};\n")
    print("// clang-format on\n\n}  // namespace mobilellm::unicode")


main()
