"""HTML in texts: an encoder is given what people would read, not what a browser would."""

from __future__ import annotations

import html
import re

_UNSEEN = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:[a-z][a-z0-9]*|#\d+|#x[0-9a-f]+);", re.IGNORECASE)


def without_markup(text: str) -> str:
    """Return a text without tags, scripts and comments, its entities as the signs they are.

    What only looks like a tag stays.

    Example:
        >>> without_markup("<b>Tea</b><br/>&amp; milk").split()
        ['Tea', '&', 'milk']
        >>> without_markup("Tea<script>alert(1)</script>").split()
        ['Tea']
        >>> without_markup("1 < 2 > 0, AT&T <3")
        '1 < 2 > 0, AT&T <3'
    """
    if "<" in text:
        text = _TAG.sub(" ", _UNSEEN.sub(" ", text)) if has_tags(text) else text
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text) if "&" in text else text


def has_tags(text: str) -> bool:
    """Return whether a text holds a tag or a comment."""
    return "<" in text and bool(_TAG.search(text) or _UNSEEN.search(text))
