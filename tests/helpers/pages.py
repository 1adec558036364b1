"""What the tests of every HTML page share."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

HOSTILE = [
    "<script>alert(1)</script>",
    "\"&'",
    "</script><img src=http://example.org/x.png onerror=alert(1)>",
    "$$\\frac{1}{2}$$",
    "{{ 7 * 7 }}",
    "back\u202ewards\x00\ud800",
    "javascript:alert(1)",
    "@{name}",
]


class Parsed(HTMLParser):
    """Every tag with its attributes, the text outside scripts, and the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.words, self.scripts, self.styles, self._within = [], [], [], [], None
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._within = self.tags[-1]

    def handle_endtag(self, tag):
        self._within = None

    def handle_data(self, data):
        tag, attributes = self._within or ("", {})
        if tag == "script":
            self.scripts.append((attributes, data))
        else:
            (self.styles if tag == "style" else self.words).append(data)


def assert_self_contained(page: Parsed):
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "video", "audio")
        for key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href", "style", "ping"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:image/png;base64,", "--run:")), (tag, key, value)
        assert not [key for key in attributes if key.startswith("on")]
    assert not re.search(r"url\(|@import|expression\(", "".join(page.styles))
    (policy,) = [a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    run = [text for attributes, text in page.scripts if attributes.get("type") != "application/json"]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run}
    assert hashes == set(re.findall("'sha256-([^']*)'", policy))
    assert len(run) == 1
    for attributes, text in page.scripts:
        if attributes.get("type") == "application/json":
            json.loads(text)
            assert "<" not in text
