"""The pages behind links: plain HTML with a stylesheet, and nothing inline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .messages import Response

__all__ = ["ANSWERED", "CSS", "ENDED", "FORGED", "PAGE_HEADERS", "Page"]

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri"
        " 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
}


@dataclass(frozen=True)
class Page:
    """What a person is shown.

    Attributes:
        status: the code.
        title: a line.
        message: a few more.
        choices: the labels of the buttons; none where nothing can be answered.
        stylesheet: its address.
    """

    status: int
    title: str
    message: str = ""
    choices: Sequence[str] = ()
    stylesheet: str = ""

    def html(self) -> str:
        """Return the page, plain: no script, and nothing inline."""
        buttons = "".join(
            f'<button type="submit" name="choice" value="{number}">{escape(label)}</button>\n'
            for number, label in enumerate(self.choices)
        )
        form = f'<form method="post">\n{buttons}</form>\n' if buttons else ""
        message = f"<p>{escape(self.message)}</p>\n" if self.message else ""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<title>{escape(self.title)}</title>\n<link rel="stylesheet"'
            f' href="{escape(self.stylesheet)}">\n</head>\n'
            f"<body>\n<main>\n<h1>{escape(self.title)}</h1>\n{message}{form}</main>\n"
            "</body>\n</html>\n"
        )

    def response(self) -> Response:
        """Return the answer."""
        return Response(self.status, self.html().encode(), PAGE_HEADERS, "text/html; charset=utf-8")


FORGED = Page(
    403,
    "This link is not valid",
    "It may have been cut off on its way. Please open it from the mail again.",
)
ENDED = Page(
    410,
    "This is not asked any more",
    "What the link was about has ended, or went on without an answer.",
)
ANSWERED = Page(410, "This was answered already", "The link works once. Nothing was changed now.")

CSS = """\
:root { color-scheme: light dark; }
body { margin: 0; font: 1.125rem/1.5 system-ui, sans-serif; }
main { max-width: 34rem; margin: 12vh auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.25; }
form { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 2rem; }
button { font: inherit; padding: .6rem 1.4rem; border: 2px solid currentColor; border-radius: .4rem;
  background: transparent; color: inherit; cursor: pointer; }
button:hover, button:focus-visible { background: CanvasText; color: Canvas; }
"""
