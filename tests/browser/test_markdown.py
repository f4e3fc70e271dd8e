"""The markdown that grows: safe, the same however it was cut, and quick."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.browser import ChatPage, chunk, sse
from tests.support.timing import FACTOR

pytestmark = pytest.mark.browser

RENDER = """async ({ text, size }) => {
  const { MarkdownStream } = await import("/assets/markdown.js");
  const root = document.createElement("div");
  const stream = new MarkdownStream(root);
  const chars = [...text];
  for (let i = 0; i < chars.length; i += size) stream.push(chars.slice(i, i + size).join(""));
  stream.end();
  root.normalize();
  root.querySelectorAll("figcaption").forEach((node) => node.remove());
  return root.innerHTML;
}"""

CORPUS = {
    "paragraphs": "One *two* **three** ***four*** ~~five~~.\nSame block.\n\nNext __bold__, _em_, snake_case_name.",
    "unclosed": "An **open bold, an *open em, an `open code and a [link](http://exam\n\nnext",
    "marks as text": "5 * 3 * 2 and a_b_c and ** x ** and `` a ` b `` and \\*not em\\* and 2 < 3 <x>",
    "nested marks": "**a *b* c** and *a **b** c* and **a *b*** and *a **b*** and **code `**` in**",
    "blanks": "Fill in: __________ and ***** done",
    "links": (
        "[one](https://a.example/x_(y)) [two](https://b.example 'no') [3](javascript:alert(1)) "
        "https://c.example/d_e. (https://e.example/x) <https://f.example> ![pic](https://g.example/i) [a [b] c](d) h"
    ),
    "lists": (
        "Text:\n- one\n- two\n  - deep\n    more deep\n  - deep 2\n- three\n\n  second paragraph\n\n"
        "1. first\n2. second\n   ```py\n   x = 1\n     y = 2\n   ```\n3. third\n\n7) seven\n\nafter\n* star\n+ plus\n"
    ),
    "tasks": "- [ ] open\n- [x] done\n- [link](https://a.example)\n- [",
    "fences": (
        "```js\nlet a = `b`;\n\n  ``\n``` not the end\n```\nafter\n~~~\n```\n~~~\n````md\n```\n````\n"
        "```never closed\nx"
    ),
    "headings": "# One\n## Two *em*\n####### seven\n#hash\n### Three",
    "quotes": "> quoted **text**\n> more\n>\n> - list\n> - in it\n\nout\n>tight\n> > deep\n",
    "tables": (
        "Before:\n| a | b |\n|:-:|--:|\n| `x|y` | 1 \\| 2 |\n| | <br>z |\nafter\n\n"
        "| lonely |\n\n| not | table |\ntext"
    ),
    "rules": "a\n\n---\n\n***\n- - -\n-- no\n*** no",
    "html": "<script>alert(1)</script> <img src=x onerror=alert(1)> <b>no</b>\n\n<div>\nx\n</div>",
    "crlf": "one\r\n\r\n- two\r\n- three\r\n",
    "unicode": "Grüße, 水は静か 🌊👩‍🚀 **太字** e\u0301",
}


def render(chat: ChatPage, text: str, size: int = 1_000_000) -> str:
    return str(chat.page.evaluate(RENDER, {"text": text, "size": size}))


@pytest.mark.parametrize("name", CORPUS)
def test_the_result_does_not_depend_on_how_the_text_was_cut(chat: ChatPage, name: str) -> None:
    whole = render(chat, CORPUS[name])
    for size in (1, 2, 3, 5, 7, 11):
        assert render(chat, CORPUS[name], size) == whole, size


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a *b* **c** `d`", "<p>a <em>b</em> <strong>c</strong> <code>d</code></p>"),
        ("a\nb", "<p>a<br>b</p>"),
        ("**a *b***", "<p><strong>a <em>b</em></strong></p>"),
        ("*a **b***", "<p><em>a <strong>b</strong></em></p>"),
        ("`a*b*` \\*c\\*", "<p><code>a*b*</code> *c*</p>"),
        ("snake_case_name", "<p>snake_case_name</p>"),
        ("- a\n- b\n  - c", "<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p></li></ul></li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li><p>a</p></li><li><p>b</p></li></ol>'),
        ("# T\ntext", '<h3 class="level-1">T</h3><p>text</p>'),
        ("> a\n> b", "<blockquote><p>a<br>b</p></blockquote>"),
        ("a\n\n---\nb", "<p>a</p><hr><p>b</p>"),
        ("*hm* https", "<p><em>hm</em> https</p>"),
        ("[x](javascript:alert(1))", "<p><span>x</span></p>"),
        ("| not a table |", "<p>| not a table |</p>"),
    ],
)
def test_markdown_becomes(chat: ChatPage, text: str, html: str) -> None:
    assert render(chat, text) == html


def test_code_tables_and_links_are_drawn(chat: ChatPage) -> None:
    found = chat.page.evaluate(
        """async () => {
          const { MarkdownStream } = await import("/assets/markdown.js");
          const root = document.createElement("div");
          const stream = new MarkdownStream(root);
          stream.push("- x\\n  ```py\\n  if a:\\n    b\\n  ```\\n\\n|h|i|\\n|-|-|\\n|`a|b`|c|\\n\\nSee https://a.example/x_(y).");
          stream.end();
          return {
            code: root.querySelector("li pre").textContent,
            lang: root.querySelector(".lang").textContent,
            cells: [...root.querySelectorAll("td")].map((cell) => cell.textContent),
            href: root.querySelector("a").href,
            rel: root.querySelector("a").rel,
          };
        }"""
    )
    assert found == {
        "code": "if a:\n  b",
        "lang": "py",
        "cells": ["a|b", "c"],
        "href": "https://a.example/x_(y)",
        "rel": "noopener noreferrer",
    }


def test_model_text_is_never_executed_or_fetched(chat: ChatPage) -> None:
    hostile = (
        '<img src=https://evil.example/x onerror="window.pwned=1"><script>window.pwned=1</script>'
        "<svg onload='window.pwned=1'> ![x](https://evil.example/y.png) [c](javascript:window.pwned=1) "
        "[d](data:text/html,x)\n\n```html\n<script>window.pwned=1</script>\n```\n\n"
        "| <b onclick=x>h</b> |\n|--|\n| <i>c</i> |\n"
    )
    chat.inject(sse(chunk(role="assistant"), *(chunk(char) for char in hostile), chunk(finish="stop")))
    chat.send("<b>Hello</b>")
    prose = chat.answer_is("complete").locator(".prose")
    assert chat.page.evaluate("window.pwned") is None
    assert prose.locator("img, script, iframe, object, b, i, p svg, [onclick], [onerror]").count() == 0
    assert prose.locator("a").evaluate_all("links => links.every((a) => a.protocol === 'https:')")
    assert "<script>window.pwned=1</script>" in prose.inner_text()
    assert chat.page.locator(".said").inner_text() == "<b>Hello</b>"


@pytest.mark.parametrize("shape", ["one paragraph", "one list", "one code block"])
def test_five_thousand_tokens_are_cheap(chat: ChatPage, shape: str) -> None:
    spent: dict[str, Any] = chat.page.evaluate(
        """async (shape) => {
          const { MarkdownStream } = await import("/assets/markdown.js");
          const root = document.body.appendChild(document.createElement("div"));
          const stream = new MarkdownStream(root);
          const shapes = {
            "one list": (i) => (i % 12 ? " word" : "\\n- item"),
            "one code block": (i) => (i ? " word" : "```\\n"),
            "one paragraph": (i) => (i % 40 ? " word" : " **bold** and `code`"),
          };
          const text = shapes[shape];
          const parts = Array.from({ length: 5000 }, (_, i) => text(i));
          let added = 0;
          const watch = new MutationObserver((all) => all.forEach((one) => (added += one.addedNodes.length)));
          watch.observe(root, { childList: true, subtree: true });
          const start = performance.now();
          for (const part of parts) stream.push(part);
          stream.end();
          const ms = performance.now() - start;
          await Promise.resolve();
          root.remove();
          return { ms, added };
        }""",
        shape,
    )
    assert spent["ms"] < 500 * FACTOR
    # Far fewer nodes than drawing the whole answer for each token would make.
    assert spent["added"] < 12_000
