"""One measure for every model: `mobilellm compare` with the float model, and answers to questions."""
import json
import re
import subprocess

from .makers import Failed


def run(argv):
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(done.stderr.strip()[-300:])
    return done.stdout


def compare(program, reference, model, texts, max_chunks, flags=(), prefix=()):
    """The object of `compare --json` without flips."""
    report = json.loads(run([*prefix, program, "compare", reference, model, "--text", *texts, "--max-chunks", max_chunks,
                             "--flips", 0, "--json", *flags]))
    for text in [*report["texts"], report["total"]]:
        text.pop("left_out_tokens", None)
    return {"a": report["a"], "b": report["b"], "texts": report["texts"], "total": report["total"]}


def last_number(text):
    """The last number of an answer as text, without thousands separators; None when there is none."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    if not found:
        return None
    number = float(found[-1].replace(",", ""))
    return f"{number:g}"


def read_questions(path, n):
    """[(question, number)] from a .jsonl with "question" and "answer" whose last number is the result."""
    questions = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if len(questions) == n:
                break
            row = json.loads(line)
            questions.append((row["question"], last_number(row["answer"])))
    return questions


def answers(program, model, questions, max_tokens=256, prefix=()):
    """The last number of each greedy answer."""
    numbers = []
    for question, _ in questions:
        report = json.loads(run([*prefix, program, "generate", "--model-path", model, "--prompt", question,
                                 "--temperature", 0, "--max-tokens", max_tokens, "--json"]))
        numbers.append(last_number(report["text"]))
    return numbers


def count_answers(questions, numbers, reference_numbers):
    """How many are right, and what became of the questions that the float model answers."""
    truth = [number for _, number in questions]
    right = [a == b for a, b in zip(numbers, truth)]
    known = [a == b for a, b in zip(reference_numbers, truth)]
    return {"questions": len(questions), "right": sum(right), "reference_right": sum(known),
            "kept": sum(a and b for a, b in zip(right, known)),
            "same_as_reference": sum(a == b for a, b in zip(numbers, reference_numbers))}
