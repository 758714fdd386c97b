"""Compares this project's token ids with those of Hugging Face's library.

usage: hugging_face_tokenizer_test.py PROGRAM TOKENIZER TEXT...

PROGRAM is the command that encodes standard input, such as
"build/catena-train data encode". TOKENIZER is a tokenizer.json. The texts are
every line of the files TEXT and a list of awkward ones. Ends with 77, which
the test runner counts as skipped, where the library is not installed.
"""

import shlex
import subprocess
import sys

try:
    import tokenizers
except ImportError:
    print("SKIPPED: the Python module 'tokenizers' is not installed; ids are "
          "NOT compared with Hugging Face's library")
    sys.exit(77)

AWKWARD = [
    "",
    " ",
    "   leading and trailing   ",
    "tabs\t\tand\r\n\r\nlines \n \n",
    "don't I'LL we've it's",
    "1234567890 12.5% $3,000",
    "<|endoftext|>",
    "one<|endoftext|> two <|endoftext|>",
    "é e\u0301 naïve Straße ﬁ",
    "数学 问题：求解 x+1=2。",
    "مرحبا ١٢٣ नमस्ते สวัสดี 한국어",
    "🦙👩‍👩‍👧 zero\u200bwidth\u00a0no-break\u2003em\u180e mongolian",
    "a" * 1000,
    " " * 300 + "x",
    "\u0000control\u001f",
]
SEPARATOR = "\u0001\u0002\u0003 text \u0003\u0002\u0001"


def encode(program, tokenizer, text):
    done = subprocess.run(
        shlex.split(program) + ["--tokenizer", tokenizer],
        input=text.encode("utf-8"), capture_output=True, check=True)
    return [int(word) for word in done.stdout.split()]


def main(program, tokenizer, paths):
    reference = tokenizers.Tokenizer.from_file(tokenizer)
    texts = list(AWKWARD)
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            content = lines.read()
        # Long stretches first: one process each, most of the text.
        texts += [content[i:i + 20000] for i in range(0, len(content), 20000)]
    texts.append(SEPARATOR.join(AWKWARD))
    wrong = 0
    for text in texts:
        expected = reference.encode(text, add_special_tokens=False).ids
        got = encode(program, tokenizer, text)
        if got != expected:
            wrong += 1
            first = next((i for i, (a, b) in enumerate(zip(got, expected))
                          if a != b), min(len(got), len(expected)))
            print(f"differs at token {first}: {got[first:first + 8]} instead "
                  f"of {expected[first:first + 8]} in {text[:60]!r}")
    print(f"{len(texts) - wrong} of {len(texts)} texts agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
