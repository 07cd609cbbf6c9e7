"""What holds for every page that is written."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

import html5lib

LOADING = ("src", "href", "srcset", "data", "action", "poster", "background", "{http://www.w3.org/1999/xlink}href")


def parsed(text: str) -> Element:
    """The page as a tree, after checking that it is well formed, whole in itself, and sound in its references."""
    # Places where a long word may be broken are no part of the text.
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text.replace("<wbr>", ""))
    everything = list(tree.iter())
    assert not [each.tag for each in everything if each.tag in ("script", "link", "iframe", "object", "embed", "base")]
    ids = [each.attrib["id"] for each in everything if "id" in each.attrib]
    assert sorted(ids) == sorted(set(ids)), "ids are unique"
    for each in everything:
        for name in LOADING:
            address = each.attrib.get(name, "#content")
            assert address.startswith("data:image/png;base64,") or address[1:] in ids, f"{name}={address[:80]}"
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(each.attrib.get(name, "").split()) <= set(ids), f"{name}={each.attrib[name]}"
    for address in re.findall(r"url\(([^)]*)\)", text):
        assert address.startswith("#"), f"url({address})"
        assert address[1:] in ids, f"url({address})"
    assert "@import" not in text
    names = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert names <= set(re.findall(r"(--[\w-]+):", text)), "every colour has a value"
    return tree


def words(tree: Element) -> str:
    """What is read on the page, blanks joined."""
    body = tree.find("body")
    assert body is not None
    return " ".join(" ".join(body.itertext()).split())
