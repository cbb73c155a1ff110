#!/usr/bin/env python3
"""Checks the rules of the source tree that a compiler does not: who includes whom, and what may stand where.

    tools/check_includes.py [ROOT]

Prints one line per breach, "file:line: what is wrong", and exits 1 when there is one. HACKING.md explains the layers.
"""
import re
import sys
from pathlib import Path

# module: the other modules it may include. The longest key that begins a file's folder is its module.
MAY_INCLUDE = {
    "base": "",
    "tensor": "base",
    "kernels": "tensor base",
    "formats": "tensor base",
    "codec": "kernels formats tensor base",
    "tokenizer": "base",
    "chat": "base",
    "model": "formats codec tokenizer chat tensor base",
    "backend": "model codec tensor base",  # backend.h and the registry
    "backend/cpu": "backend kernels codec model tensor base",
    "backend/fake": "backend model tensor base",
    "backprop": "kernels model codec tensor base",
    "quality": "backend model codec tokenizer chat tensor base",
    "quant": "backprop quality convert backend model kernels formats codec tokenizer tensor base",
    "engine": "backend tensor base",
    "measure": "backend model kernels codec tensor base",
    "pipeline": "engine backend model tokenizer chat tensor base",
    "convert": "model formats codec tokenizer chat tensor base",
    "api": "pipeline engine backend model formats codec tokenizer chat tensor base",
    "cli": "backprop quality quant convert api pipeline measure engine backend model kernels formats codec tokenizer chat tensor base",
}
# Concrete backends are named in backend/registry.cpp only; everything else sees these headers.
BACKEND_SEAM = {"backend/backend.h", "backend/registry.h"}
# Of `model`, computing code sees the description and the weights, not how they are loaded.
MODEL_SEAM = {"model/spec.h", "model/weights.h"}
# Public headers that the library's own modules may include; the others belong to src/api, which implements them.
PUBLIC_FOR_ALL = {"mobilellm/error.h", "mobilellm/export.h"}
# Third-party headers that other headers may include.
HEADER_EXCEPTIONS = {"fmt/core.h"}
SYSTEM_HEADERS = re.compile(r"(fcntl|sched|unistd|pthread|sys/\w+|mach/\w+)\.h$")

ARCHITECTURES = re.compile(r"llama4|llama_|\bllama\b|qwen[23]|gemma3|olmo2", re.IGNORECASE)
# Tokenizer files name their vocabularies and splitting rules after the models that used them first.
ARCHITECTURE_EXCEPTIONS = ("src/model/arch/", "src/tokenizer/")
INTRINSICS = re.compile(r"__AVX|__ARM_NEON|__SSE|\w*immintrin\.h|arm_neon\.h|\b_mm(256|512)?_\w+\(")
PRINTS = re.compile(r"\b(abort|exit|_exit|_Exit|quick_exit)\s*\(|std::(cout|cerr|clog|terminate)\b|(?<![\w.>:])f?printf\s*\("
                    r"|\bfmt::print\b|\bf?puts\s*\(")
VAGUE_NAMES = re.compile(r"(^|/)(utils?|common|helpers?|misc)(\.\w+$|/)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def without_comments(text):
    """The text without comments and raw strings; line numbers stay."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)

    def blank(match):
        token = match.group(0)
        return token if token[0] in "\"'" else "\n" * token.count("\n")

    return pattern.sub(blank, text)


def module_of(path):
    """src/backend/cpu/x.cpp -> backend/cpu; src/engine/sampler/x.cpp -> engine."""
    parts = path.parts[1:-1]
    return next(("/".join(parts[:n]) for n in range(len(parts), 0, -1) if "/".join(parts[:n]) in MAY_INCLUDE), None)


def check_includes(path, module, lines):
    is_header = path.suffix in (".h", ".inc")
    is_public = path.parts[0] == "include"
    is_test = path.stem.endswith(("_test", "_bench"))
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quoted, name = match.group(1) == '"', match.group(2)
        if is_public:
            if not name.startswith("mobilellm/") and (quoted or "/" in name or name.endswith(".h")) \
                    and name not in ("stddef.h", "stdint.h", "stdbool.h"):
                yield number, f"a public header includes {name}: only the standard library and mobilellm/ may be"
            continue
        if not quoted:
            is_standard = "/" not in name and not name.endswith((".h", ".hpp"))
            if is_header and not is_standard and name not in HEADER_EXCEPTIONS and not SYSTEM_HEADERS.match(name) \
                    and not (module == "kernels" and INTRINSICS.match(name)):
                yield number, f"a header includes {name}: third-party headers belong in .cpp files"
            continue
        if is_test and name.startswith("tests/support/"):
            continue
        target = module_of(Path("src") / name)
        if name.startswith("mobilellm/"):
            if name not in PUBLIC_FOR_ALL and module != "api" and not is_test:
                yield number, f"{module} includes {name}: only src/api implements the public headers"
        elif target is None:
            yield number, f"includes {name}: write the path below src/, e.g. \"base/error.h\""
        elif target != module and not is_test:
            outer = target.split("/")[0]
            allowed = MAY_INCLUDE[module].split()
            is_own_registry = module == "backend" and path.name == "registry.cpp"
            if outer == "backend" and name not in BACKEND_SEAM and module.split("/")[0] != "backend":
                yield number, f"{module} includes {name}: only backend/backend.h and backend/registry.h are open to it"
            elif outer == module.split("/")[0]:
                if target != outer and not is_own_registry:
                    yield number, f"{module} includes {name}: a concrete backend is named in backend/registry.cpp only"
            elif outer not in allowed:
                yield number, f"{module} includes {name}: {module} may include {', '.join(allowed) or 'no other module'}"
            elif target == "model" and module.startswith("backend") and name not in MODEL_SEAM:
                yield number, f"{module} includes {name}: backends may include {' and '.join(sorted(MODEL_SEAM))} of it"


def check_contents(path, module, lines):
    name = path.as_posix()
    is_test = path.stem.endswith(("_test", "_bench"))
    if is_test:
        return
    in_kernels = module == "kernels" or name.startswith("src/base/cpu_features.")
    for number, line in enumerate(lines, 1):
        if not name.startswith(ARCHITECTURE_EXCEPTIONS):
            found = ARCHITECTURES.search(line)
            if found:
                yield number, f"'{found.group(0)}': architecture names belong in src/model/arch"
        if not in_kernels:
            found = INTRINSICS.search(line)
            if found:
                yield number, f"'{found.group(0)}': intrinsics belong in src/kernels and src/base/cpu_features"
        if module != "cli":
            found = PRINTS.search(line)
            if found:
                yield number, f"'{found.group(0).strip()}': the library never prints, exits or aborts"


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    breaches = []
    n_files = 0
    for folder in ("include", "src"):
        for file in sorted((root / folder).rglob("*")):
            path = file.relative_to(root)
            if VAGUE_NAMES.search(path.as_posix()):
                breaches.append(f"{path}: a name that says nothing; say what it is")
            if file.suffix not in (".h", ".cpp", ".inc", ".c"):
                continue
            n_files += 1
            module = module_of(path) if folder == "src" else None
            if folder == "src" and module is None:
                breaches.append(f"{path}: not in a known module; add its row to MAY_INCLUDE in tools/check_includes.py")
                continue
            lines = without_comments(file.read_text(encoding="utf-8")).split("\n")
            found = list(check_includes(path, module, lines))
            if folder == "src":
                found += check_contents(path, module, lines)
            breaches += [f"{path}:{number}: {what}" for number, what in sorted(found)]
    for line in breaches:
        print(line)
    if n_files == 0:
        sys.exit(f"no sources below {root}")
    print(f"{n_files} files, {len(breaches)} breaches", file=sys.stderr)
    sys.exit(1 if breaches else 0)


if __name__ == "__main__":
    main()
