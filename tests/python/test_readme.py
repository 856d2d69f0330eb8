"""Runs README.md: its commands and programs in the order of the page, and compares what they print.

Invariant: no fenced block goes untested silently. `sh` and `python` blocks are run, `text` blocks are compared
with the output of the block before them or, below a comment that says so, with the broker's log. Only the
two commands of the quick start are marked as not run: continuous integration runs them itself.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
SECONDS = 30

NOT_RUN = {"cargo run --release\n", "cargo xtask test\n"}
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT_BEFORE = re.compile(r"<!-- ([^\n]*) -->\n*\Z")

# What differs from run to run, and what stands for it.
VARIABLE = [
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+"), "TIME"),
    (re.compile(r"127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"FerryMQ \d+\.\d+\.\d+\S*"), "FerryMQ VERSION"),
    (re.compile(r"data directory '[^']*'"), "data directory DIR"),
    (re.compile(r"\d+ (ms|MiB)\b"), r"N \1"),
]


class Block:
    """One fenced block: its language, its text, its line, and the comment above it."""

    def __init__(self, language, text, line, comment):
        self.language, self.text, self.line, self.comment = language, text, line, comment


def blocks(page):
    text = page.read_text()
    for found in FENCE.finditer(text):
        comment = COMMENT_BEFORE.search(text, 0, found.start())
        line = text.count("\n", 0, found.start()) + 1
        yield Block(found[1], found[2], line, comment[1] if comment else "")


def normalised(text):
    for pattern, word in VARIABLE:
        text = pattern.sub(word, text)
    return text.strip().splitlines()


class Tour:
    """The reader: a shell in the directory that the broker was started in."""

    def __init__(self, server, tools):
        self.server, self.tools, self.output = server, tools, None
        self.read = 0

    def run(self, command):
        environment = {**os.environ, "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}"}
        result = subprocess.run(
            command, cwd=self.server.directory, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS,
        )  # fmt: skip
        self.output = result.stdout
        return result.returncode

    def log(self, count):
        """The next `count` lines of the log that the reader has not seen, as soon as they are there."""
        output, deadline = self.server.output, time.monotonic() + SECONDS
        with output.changed:
            while len(output.lines) < self.read + count and time.monotonic() < deadline:
                output.changed.wait(0.1)
            lines = output.lines[self.read : self.read + count]
        self.read += count
        return "\n".join(lines)

    def skip_log(self):
        self.read = len(self.server.output.lines)

    def take(self, block):
        """Does what a reader does with the block."""
        place = f"README.md:{block.line}"
        if block.comment.startswith("not run"):
            assert block.text in NOT_RUN, f"{place}: only the quick start's two commands may be left out"
        elif block.language == "sh":
            self.skip_log()
            self.run(["bash", "-c", self.here(block.text)])
        elif block.language == "python":
            self.skip_log()
            code = self.run([sys.executable, "-c", self.here(block.text)])
            assert code == 0, f"{place}: {self.output}"
        elif block.language == "text" and block.comment.startswith("the log"):
            expected = normalised(block.text)
            assert normalised(self.log(len(expected))) == expected, place
        elif block.language == "text":
            assert self.output is not None, f"{place}: an output without a command before it"
            assert normalised(self.output) == normalised(block.text), place
            self.output = None
        else:
            pytest.fail(f"{place}: a block of the language '{block.language}' would go untested")

    def here(self, text):
        return text.replace(":5672", f":{self.server.port}")


def test_readme_is_true(own_broker, tmp_path):
    server = own_broker(config=(ROOT / "config.toml").read_text())
    (tmp_path / "ferrymq").symlink_to(server.binary)
    (tmp_path / "python").symlink_to(sys.executable)
    tour = Tour(server, tmp_path)
    taken = 0
    for block in blocks(README):
        tour.take(block)
        if block.language != "text":
            assert tour.output is not None or block.text in NOT_RUN
        taken += 1
    assert taken >= 10
    assert server.stop_process() == 0


def test_quick_start_has_the_two_commands():
    marked = [block.text for block in blocks(README) if block.comment.startswith("not run")]
    assert sorted(marked) == sorted(NOT_RUN)


def test_a_false_output_is_noticed():
    tour = Tour(server=None, tools="")
    tour.output = "received: one\n"
    with pytest.raises(AssertionError):
        tour.take(Block("text", "received: two\n", 1, ""))
    with pytest.raises(AssertionError):
        tour.take(Block("sh", "rm -rf everything\n", 1, "not run by the test: it would do harm"))
    with pytest.raises(pytest.fail.Exception):
        tour.take(Block("toml", "", 1, ""))


# Every page whose links must lead somewhere.
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", FENCE.sub("", page.read_text()))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("language", ["python", "rust", "node"])
def test_readme_of_the_examples_names_every_program(language):
    folder = ROOT / "examples" / language
    programs = {path.stem for pattern in ("*.py", "*.js", "src/bin/*.rs") for path in folder.glob(pattern)}
    text = (folder / "README.md").read_text()
    assert programs and [program for program in sorted(programs) if program not in text] == []


def test_log_lines_of_the_operators_page_are_in_the_source():
    """Each row of a table below "Log lines" begins with a log line whose variable parts are `…`."""
    source = "".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.rs")))
    page = (ROOT / "docs" / "operators.md").read_text().split("## Log lines", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(lines) >= 10
    pieces = [piece.strip() for line in lines for piece in line.split("…") if len(piece.strip()) > 3]
    assert [piece for piece in pieces if piece not in source] == []
