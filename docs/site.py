"""What the site needs beside the pages; mkdocs calls it (`hooks` in mkdocs.yml)."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """A Japanese page says so, for its letters, a screen reader and a search engine."""
    return output.replace('<html lang="en"', '<html lang="ja"', 1) if page.file.src_path.endswith(".ja.md") else output


def on_post_build(config: Any, **_: Any) -> None:
    """The site's search parts words at spaces, which Japanese does not have: each entry also gets its words one by one.

    A word is a run of one script, or of kanji and katakana together.
    """
    file = Path(config["site_dir"]) / "search" / "search_index.json"
    index = json.loads(file.read_text(encoding="utf-8"))
    for entry in index["docs"]:
        if ".ja.html" in entry["location"]:
            text = f"{entry['title']} {entry['text']}"
            found = re.findall("[一-龠々]+|[ァ-ヴー]+|[ぁ-ん]+", text) + re.findall("[一-龠々ァ-ヴー]+", text)
            entry["text"] = " ".join([entry["text"], *dict.fromkeys(found)])
    file.write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """A link to a file outside docs/ becomes its path: the site does not have the code."""
    docs, here = Path(config["docs_dir"]), Path(page.file.abs_src_path).parent

    def named(link: re.Match[str]) -> str:
        text, path, _, line = link.groups()
        target = Path(os.path.normpath(here / path))
        if target.is_relative_to(docs) or not target.exists():
            return link[0]  # mkdocs warns of a target that is nowhere
        where = target.relative_to(docs.parent).as_posix()
        return f"{text} (`{where}`{f', line {line}' if line else ''})"

    return re.sub(r"\[((?:`[^`]*`|[^\]`])+)\]\((\.\./[^)#]+)(#L(\d+))?\)", named, markdown)
