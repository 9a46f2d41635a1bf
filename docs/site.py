"""What the site needs beside the pages; mkdocs calls it (`hooks` in mkdocs.yml)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any


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
