"""The Japanese pages say what the English ones say: the same commands, and no figure of their own."""

from __future__ import annotations

import re
from itertools import zip_longest

import pytest
from conftest import ROOT
from test_code_blocks import PAGES, commands, fenced, words

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ORDER = ("first", "second", "third")
CLOSE = {  # unit -> what stands for it in English, after the number and perhaps others: 42 to 48 minutes
    "分": "minute",
    "倍": "times",
    "GB": "GB",
    "コア": "(?:[a-z]+ )?core",
    "スレッド": "thread",
    "%": "%",
}
LOOSE = {  # the same, anywhere in the paragraph
    "ステップ": "step",
    "枚": "picture|illustration|image|item|third",
    "シード": "seed",
    "体": "figure",
}
NUMBER = r"\d[\d,]*(?:\.\d+)?"
ARTICLE = "記事で起きたこと"  # its figures are the article's own:
EPOCHS = "1,000 5,000 6,000 33,000 40,000 45,000 100,000"


def sections(page: str) -> dict[str, str]:
    """Heading -> text, from each `##` to the next; what stands before the first one has the heading ''."""
    parts = re.split(r"^#{2,} (.*)\n", page, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def plain(text: str) -> str:
    """The text without the targets of links and what a command prints, and with numbers in words as digits."""
    text = re.sub(r"^```text\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    for number, word in enumerate(WORDS, 1):
        text = re.sub(rf"\b{word}\b", str(number), text, flags=re.IGNORECASE)
    for number, word in enumerate(ORDER, 1):
        text = re.sub(rf"\b{word}\b", f"{number} {word}", text, flags=re.IGNORECASE)
    return text


def numbers(text: str) -> set[str]:
    return {found.rstrip(",") for found in re.findall(NUMBER, plain(text))}


def unfounded(japanese: str, *english: str) -> list[str]:
    """The figures of a Japanese text that no paragraph of the English ones has, with the same unit if there is one."""
    paragraphs = [plain(part) for text in english for part in re.split(r"\n\n", text)]
    known = {number for part in paragraphs for number in numbers(part)}
    wrong = sorted(numbers(japanese) - known)
    for number, unit in re.findall(rf"({NUMBER}) ?({'|'.join(CLOSE | LOOSE)})", plain(japanese)):
        if unit in LOOSE:
            found = any(number in numbers(part) and re.search(LOOSE[unit], part) for part in paragraphs)
        else:
            exact = rf"(?<![\d.,]){re.escape(number)}(?:,? (?:to|and) {NUMBER})* ?{CLOSE[unit]}"
            found = any(re.search(exact, part.replace("\n", " ")) for part in paragraphs)
        wrong += [] if found else [f"{number} {unit}"]
    return wrong


def linked(section: str) -> list[str]:
    """The English pages that a section of docs/start.ja.md links to, or the section of them that it names."""
    found = []
    for page, anchor in re.findall(r"\]\(([\w/-]+\.md)(?:#([\w-]+))?\)", section):
        parts = sections(PAGES[f"docs/{page}"])
        named = [text for heading, text in parts.items() if slug(heading) == anchor]
        assert named or not anchor, f"{page} has no section {anchor}"
        found += named or parts.values()
    return found


def slug(heading: str) -> str:
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def readme_against(japanese: str) -> list[str]:
    """What README.ja.md has and README.md has not, section by section: figures, commands, pictures."""
    ours, theirs = sections(japanese), sections(PAGES["README.md"])
    assert len(ours) == len(theirs)
    wrong = []
    for mine, other in zip(ours.values(), theirs.values(), strict=True):
        wrong += unfounded(mine, other)
        for what in (run, output, pictures, files):
            wrong += [f"{a} for {b}" for a, b in zip_longest(what(mine), what(other)) if a != b]
    return wrong


def pictures(page: str) -> list[str]:
    return re.findall(r"!\[[^\]]*\]\(([^)]*)\)", page)


def files(page: str) -> list[list[str]]:
    """The names in the first column of a table."""
    return [re.findall("`([^`]*)`", cell) for cell in re.findall(r"^\| (.*?) \|", page, re.MULTILINE)]


def run(page: str) -> list[list[str]]:
    """The words of each command."""
    return [words(line) for line in commands(page)]


def output(page: str) -> list[str]:
    return [text for language, text in fenced(page) if language == "text"]


def start_against(japanese: str) -> list[str]:
    """The figures and commands of docs/start.ja.md that the English pages do not have."""
    first = (PAGES["README.md"], PAGES["docs/start.md"])
    wrong = []
    for heading, section in sections(japanese).items():
        wrong += unfounded(section, *first, *linked(section), *([EPOCHS] if heading == ARTICLE else []))
    known = [anywhere(one) for page, text in PAGES.items() if not page.endswith(".ja.md") for one in run(text)]
    wrong += [" ".join(one) for one in run(japanese) if anywhere(one) not in known]
    said = re.sub(r"\s+", " ", PAGES["docs/collapse.md"])
    return wrong + [text for text in output(japanese) if re.sub(r"\s+", " ", text).strip() not in said]


def anywhere(command: list[str]) -> list[str]:
    """The command on any folder of pictures."""
    return ["DIR" if before == "--data" else word for before, word in zip(["", *command], command, strict=False)]


def test_the_japanese_readme_has_commands_figures_and_pictures_of_the_english_one():
    assert readme_against(PAGES["README.ja.md"]) == []


def test_the_japanese_start_has_commands_and_figures_of_the_english_pages():
    assert start_against(PAGES["docs/start.ja.md"]) == []


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("5 GB", "6 GB"),
        ("4 分", "2 分"),
        ("0.57、0.54", "0.57、0.53"),
        ("1.7 倍", "1.8 倍"),
        ("3 つのシード", "5 つのシード"),
        ("--steps 40000", "--steps 30000"),
        ("gankit runs ", "gankit list "),
        ("make test ", "make tests "),
        ("docs/images/rescue.png", "docs/images/share.png"),
        ("`losses.png`", "`loss.png`"),
        ("images/s 242", "images/s 442"),
    ],
)
def test_a_change_of_the_japanese_readme_alone_is_seen(here: str, there: str):
    assert here in PAGES["README.ja.md"]
    assert readme_against(PAGES["README.ja.md"].replace(here, there, 1)) != []


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("23 分", "20 分"),
        ("48%", "49%"),
        ("11,000 ステップで", "10,500 ステップで"),
        ("| 0.60 | 0.66 |", "| 0.60 | 0.69 |"),
        ("33,000", "34,000"),
        ("3,160 枚", "3,160 分"),
        ("--preset paper", "--preset papers"),
        ("--steps 12000", "--steps 13000"),
        ("rescue 1 of 4", "rescue 1 of 3"),
    ],
)
def test_a_change_of_the_japanese_start_alone_is_seen(here: str, there: str):
    assert here in PAGES["docs/start.ja.md"]
    assert start_against(PAGES["docs/start.ja.md"].replace(here, there, 1)) != []


@pytest.mark.parametrize("number", ["0.89", "0.66"])
def test_a_figure_that_changes_in_english_alone_is_seen(number: str, monkeypatch):
    monkeypatch.setitem(PAGES, "README.md", PAGES["README.md"].replace(number, "0.99"))
    assert number in readme_against(PAGES["README.ja.md"])


@pytest.mark.parametrize(("here", "there"), [("README.md", "README.ja.md"), ("docs/start.md", "docs/start.ja.md")])
def test_both_languages_link_to_each_other_at_their_top(here: str, there: str):
    for page, other in ((here, there), (there, here)):
        assert f"]({other.rpartition('/')[2]})" in PAGES[page].split("\n\n")[1]
        assert (ROOT / page).is_file()
