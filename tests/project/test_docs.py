"""The documented examples work, and everything public is documented."""

from __future__ import annotations

import html
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import ROOT

import gankit
from gankit import hookspecs
from gankit.config.request import RunRequest
from gankit.config.schema import RunConfig

PLUGINS = (ROOT / "docs" / "plugins" / "index.md").read_text()


def test_the_gan_of_the_plugin_page_trains_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "my_gan.py"
    file.write_text(re.search(r"```python\n(.*?)```", PLUGINS, re.DOTALL)[1])
    run = gankit.run("my-gan", "demo:60", plugins=[str(file)], out=tmp_path / "run", steps=3, batch_size=4, log_every=1)
    assert [line["step"] for line in run.metrics()] == [1, 2, 3]
    assert "my-gan/margin" in run.metrics()[0]


@pytest.mark.parametrize("hook", [name for name in dir(hookspecs) if name.startswith("gankit_")])
def test_every_hook_is_on_the_plugin_page_and_has_a_docstring(hook):
    assert f"`{hook}`" in PLUGINS
    assert getattr(hookspecs, hook).__doc__


def test_the_reference_of_the_hooks_is_what_they_say_of_themselves():
    reference = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    text = reference["PAGE"].read_text(encoding="utf-8")
    assert text == reference["page"](), "run: python docs/reference.py"
    assert all(f"\n## {name}\n" in text for name in dir(hookspecs) if name.startswith("gankit_"))


def test_the_page_of_settings_is_what_the_fields_say_of_themselves():
    reference = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    assert reference["SETTINGS"].read_text(encoding="utf-8") == reference["settings"](), "run: python docs/reference.py"


@pytest.mark.parametrize("name", [*RunConfig.model_fields, *RunRequest.model_fields])
def test_every_setting_of_a_run_has_words_and_is_on_the_page_of_settings(name):
    fields = RunConfig.model_fields | RunRequest.model_fields
    assert fields[name].description
    assert f"`{name}`" in (ROOT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("name", gankit.__all__)
def test_every_public_name_is_there(name):
    assert getattr(gankit, name) is not None


def test_every_public_class_and_function_says_what_it_is():
    named = [getattr(gankit, name) for name in gankit.__all__ if name not in ("__version__", "hookimpl")]
    assert [item for item in named if not item.__doc__] == []


def test_the_page_of_commands_is_what_their_help_says():
    reference = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    assert reference["COMMANDS_PAGE"].read_text(encoding="utf-8") == reference["commands"](), (
        "run: python docs/reference.py"
    )


def built(docs: Path, site: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    """The site as `make docs` builds it, of the pages in `docs`. With --quiet, --strict would count no warning."""
    text = (
        config.read_text().replace("docs_dir: docs", f"docs_dir: {docs}").replace("- docs/site.py", f"- {docs}/site.py")
    )
    there = site.parent / "mkdocs.yml"
    there.write_text(text.replace("site_dir: build/docs", f"site_dir: {site}"))
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(there)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="no mkdocs: pip install 'gankit[dev]'")
    folder = tmp_path_factory.mktemp("site") / "built"
    said = built(ROOT / "docs", folder)
    assert said.returncode == 0, said.stderr
    return folder


def test_no_link_of_the_site_is_dead(site: Path) -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html") if page.name != "404.html"}
    names = {page.resolve(): set(re.findall(r'id="([^"]+)"', text)) for page, text in pages.items()}
    dead = []
    for page, text in pages.items():
        for link in re.findall(r'<(?:a|img)[^>]* (?:href|src)="([^"]+)"', text):
            path, _, anchor = html.unescape(unquote(link)).partition("#")
            target = (page.parent / path).resolve() if path else page.resolve()
            if link.startswith(("http:", "https:", "mailto:")):
                continue
            if not target.exists() or (anchor and target in names and anchor not in names[target]):
                dead.append(f"{page.name}: {link}")
    assert len(names) > 15
    assert dead == []


@pytest.mark.parametrize("link", ["no-page.md", "start.md#no-heading", "../gankit/no_file.py"])
def test_a_dead_link_fails_the_build(link: str, tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="no mkdocs: pip install 'gankit[dev]'")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for outside in ("gankit", "plugins", "benchmarks", "examples"):
        (tmp_path / outside).symlink_to(ROOT / outside)
    with open(tmp_path / "docs" / "index.md", "a") as page:
        page.write(f"\n[a link]({link})\n")
    said = built(tmp_path / "docs", tmp_path / "built")
    assert said.returncode != 0
    assert link in said.stdout + said.stderr


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("install", "start.html#install"),
        ("blurry", "trouble.html#blurry-soft-blobs"),
        ("collapsed", "trouble.html#collapsed-all-samples-look-alike-or-lack-kinds-of-pictures"),
        ("noise", "trouble.html#noise"),
        ("how many pictures", "how-to.html#how-many-pictures"),
    ],
)
def test_a_newcomer_s_words_stand_in_a_heading_that_the_site_s_search_finds(site: Path, query: str, place: str) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    headings = {entry["location"]: entry["title"].lower() for entry in index["docs"]}
    assert query in headings[place]


@pytest.mark.parametrize("word", ["崩壊", "モード崩壊", "識別器", "自己符号化器", "潜在変数", "いらすとや"])
def test_a_japanese_word_stands_between_spaces_for_the_site_s_search(site: Path, word: str) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert "ja" in index["config"]["lang"]
    assert index["config"]["min_search_length"] <= len(word)
    found = [entry["location"] for entry in index["docs"] if word in entry["text"].split()]
    assert any(place.startswith("start.ja.html") for place in found)
    assert '<html lang="ja"' in (site / "start.ja.html").read_text(encoding="utf-8")
    assert '<html lang="en"' in (site / "start.html").read_text(encoding="utf-8")


def test_links_between_pages_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#:]+)[)#]", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", ["began.md", "ebgan.md"])
def test_a_formula_s_link_leads_to_the_line_that_computes_it(page):
    text = (ROOT / "docs" / page).read_text()
    links = re.findall(r"\[`([^`\n]+)`\]\(([^)#]+)#L(\d+)\)", text)
    assert len(links) >= 5
    for code, path, number in links:
        lines = (ROOT / "docs" / path).read_text().splitlines()
        there = [n for n, line in enumerate(lines, 1) if code in line]
        assert int(number) in there, f"{page}: {code!r} stands at {path}, line {there}"


# The promises and their figures.


def unnamed(page: str) -> list[str]:
    """The tests that a page names as FILE::TEST and that do not exist."""
    named = re.findall(r"`([^`\s:]+\.py)::(\w+)`", page)
    assert len(named) > 0
    return [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).is_file() or f"\ndef {test}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]


def test_every_test_that_a_promise_names_exists() -> None:
    page = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    assert unnamed(page) == []
    assert unnamed(page.replace("test_a_resume_is_bit", "test_no_resume_is_bit")) == [
        "tests/training/test_step.py::test_no_resume_is_bit_identical"
    ]
    rows = [line for line in page.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    assert all("::test_" in row for row in rows)


def test_the_evidence_writes_its_figures_where_the_promises_have_room(tmp_path, monkeypatch) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('n', [1, 2, 3])\n"
        "def test_kill(n, record_property):\n"
        "    record_property('kills tried', 400)\n"
        "    record_property('bad inputs', 20)\n"
        "    record_property('a load', '2.5 s')\n"
        "    assert n < 3\n"
        "    record_property('kills survived', 400)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=it.xml", "test_it.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 1
    script = runpy.run_path(str(ROOT / "docs/figures.py"))
    page = tmp_path / "promises.md"
    shutil.copy(ROOT / "docs/promises.md", page)
    script["main"].__globals__["PAGE"] = page
    script["main"]([tmp_path / "it.xml"])
    once = page.read_text(encoding="utf-8")
    for row in ("survived of tried | 800 of 1,200 |", "| bad inputs | 60 |", "| a load | 2.5 s |", "| 2 of 3 |"):
        assert row in once
    script["main"]([tmp_path / "it.xml"])
    assert page.read_text(encoding="utf-8") == once
