"""Put pictures together: below a line of text, beside each other, and in rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

BAND, MARGIN = 30, 8  # height of a line of text, and margins, in pixels


def captioned(picture: Image.Image, text: str) -> Image.Image:
    """Put a line of text, which is shrunk to fit, above a picture."""
    whole = Image.new("RGB", (picture.width, picture.height + BAND), "white")
    whole.paste(picture, (0, BAND))
    _write(whole, text)
    return whole


def beside(pictures: Sequence[Image.Image], headline: str) -> Image.Image:
    """Put pictures side by side below a headline; sizes are even, as films require."""
    width = sum(picture.width for picture in pictures) + MARGIN * (len(pictures) - 1)
    height = max(picture.height for picture in pictures)
    row = Image.new("RGB", (width + width % 2, height + height % 2), "white")
    x = 0
    for picture in pictures:
        row.paste(picture, (x, 0))
        x += picture.width + MARGIN
    return captioned(row, headline)


def stacked(rows: Mapping[str, Sequence[Image.Image]], headline: str) -> Image.Image:
    """Put rows of pictures, each below its title, one below the other.

    Args:
      rows: title -> pictures.
      headline: The text above all rows.
    """
    found = [beside(pictures, title) for title, pictures in rows.items()]
    height = sum(row.height for row in found) + MARGIN * (len(found) - 1)
    whole = Image.new("RGB", (max(row.width for row in found), height), "white")
    y = 0
    for row in found:
        whole.paste(row, (0, y))
        y += row.height + MARGIN
    return captioned(whole, headline)


def _write(picture: Image.Image, text: str) -> None:
    size = BAND // 2
    while True:
        font = ImageFont.load_default(size)
        if size <= 8 or font.getlength(text) <= picture.width - 2 * MARGIN:
            break
        size -= 1
    ImageDraw.Draw(picture).text((MARGIN, MARGIN), text, fill="black", font=font)
