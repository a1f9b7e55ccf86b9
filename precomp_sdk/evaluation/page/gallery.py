"""What was sent, to look at: images a preprocessor saves most and least on, those it breaks, and whom it hurts."""

from base64 import b64encode
from collections.abc import Sequence

from precomp_sdk.evaluation._markup import Html, element, table
from precomp_sdk.evaluation.gallery import GalleryImage
from precomp_sdk.evaluation.harm import Harm, SizeChange
from precomp_sdk.evaluation.page.html import details, section

__all__ = ["gallery_section", "harm_section"]

_BUDGET = 4_000_000  # bytes of images on one page, which stays below 5 MB
_HEAT = "#e8431f"
_ROWS = 10  # in sight; the others on request
_REASONS = {
    "breaks": "It breaks: task loss rises most",
    "saves most": "It saves most bits",
    "saves least": "It saves least bits",
}


def gallery_section(gallery: Sequence[GalleryImage], quality_name: str) -> Html:
    """Return the images with their strips, by reason; those beyond what a page may hold are left out and counted."""
    first = gallery[0]
    told = (
        f"{first.label} at {quality_name} {first.quality:g}, compared with the anchor at the same {quality_name}. The "
        "difference is what the preprocessor changed, 4 times, around gray. Where bits went is measured tile by tile, "
        "each tile encoded by itself, so headers count in each and the sum is above the file's bits; "
        "the cheapest is clear, the dearest red. Images are shown small and may be recompressed; "
        "the difference was taken before."
    )
    parts: list[Html] = [element("p", told, class_="note")]
    left, reason = _BUDGET, ""
    for place, item in enumerate(gallery):
        entry = _entry(item)
        left -= len(entry)
        if left < 0:
            parts.append(element("p", f"{len(gallery) - place} more do not fit on this page.", class_="note"))
            break
        if item.reason != reason:
            reason = item.reason
            parts.append(element("h3", _REASONS.get(reason, reason)))
        parts.append(entry)
    return section("Images", *parts)


def harm_section(harms: Sequence[Harm], quality_name: str) -> Html:
    """Return, for every preprocessor, the sizes of objects, classes and images it hurts, the worst first."""
    parts: list[Html] = []
    for item in harms:
        qualities = ", ".join(f"{quality:g}" for quality in item.qualities)
        parts.append(element("h3", item.label))
        told = (
            f"At equal {quality_name} (means over {qualities}) the loss of {item.worse:.0%} of the images rises. "
            "This is not at equal bits: what is saved is in the other column, and in the plots."
        )
        parts.append(element("p", told))
        if item.sizes:
            parts.append(_sizes(item.sizes))
        if item.classes:
            metric = item.classes[0].metric
            rows: list[tuple[str, ...]] = [
                (
                    *(found.name, "" if found.images is None else str(found.images)),
                    *(f"{found.anchor:.4f}", f"{found.test:.4f}", _signed(found.test - found.anchor, good=1)),
                    "" if found.loss_change is None else _signed(found.loss_change, good=-1),
                )
                for found in item.classes
            ]
            head = ("class, worst first", "images", f"anchor's {metric}", metric, "change", "change of loss")
            parts.extend(_long(head, rows, "More classes"))
        images = [
            (found.key, _signed(found.loss_change, good=-1), f"{found.bits_change_percent:+.1f}%")
            for found in item.images
        ]
        if images:
            parts.extend(_long(("image, worst first", "change of loss", "change of bits"), images, "More images"))
    return section("Whom it hurts", *parts)


def _sizes(sizes: Sequence[SizeChange]) -> Html:
    """Return the objects' sizes, from small to large."""
    metric = sizes[0].metric
    rows = [
        (
            *(found.name, str(found.objects), f"{found.anchor:.4f}", f"{found.test:.4f}"),
            _signed(found.test - found.anchor, good=1),
        )
        for found in sizes
    ]
    return table(("objects by area", "objects", f"anchor's {metric}", metric, "change"), rows)


def _long(head: Sequence[str], rows: Sequence[tuple[str, ...]], more: str) -> list[Html]:
    rest = [details(more, table(head, rows[_ROWS:]))] if len(rows) > _ROWS else []
    return [table(head, rows[:_ROWS]), *rest]


def _signed(change: float, good: int) -> Html:
    kind = None if change == 0 else "good" if change * good > 0 else "bad"
    return element("span", f"{change:+.4f}", class_=kind)


def _entry(item: GalleryImage) -> Html:
    """Return one image: its numbers, and its strip."""
    numbers = (
        f": {item.bits:.0f} bits against {item.anchor_bits:.0f} ({item.bits_change_percent:+.1f}%), "
        f"task loss {item.loss:.4f} against {item.anchor_loss:.4f}"
    )
    tiles = [bits for grid in (item.source_tile_bits, item.sent_tile_bits) for row in grid for bits in row]
    scale = (min(tiles), max(tiles))
    side = f"tiles of about {item.tile_px} px"
    strip = element(
        "div",
        _figure(item.source, "source"),
        _figure(item.sent, "sent"),
        _figure(item.received, "received"),
        _figure(item.difference, "difference, 4 times"),
        _figure(item.source, f"bits by tile, source ({side})", _heat(item.source_tile_bits, scale)),
        _figure(item.sent, "bits by tile, sent (same scale)", _heat(item.sent_tile_bits, scale)),
        class_="strip",
    )
    return element("div", element("p", element("strong", item.key), numbers), strip, class_="image")


def _figure(image: bytes, caption: str, heat: Html | None = None) -> Html:
    shown = element("img", src=f"data:image/webp;base64,{b64encode(image).decode()}", alt=caption, loading="lazy")
    held = shown if heat is None else element("div", shown, heat, class_="heat")
    return element("figure", held, element("figcaption", caption))


def _heat(grid: tuple[tuple[int, ...], ...], scale: tuple[int, int]) -> Html:
    """Return a layer over an image: the more bits a tile takes, the less of the image is seen through it.

    The cheapest tile is clear: what every tile pays for its headers would hide the rest.
    """
    least, most = scale
    cells = [
        element(
            "rect",
            x=column,
            y=row,
            width=1,
            height=1,
            fill=_HEAT,
            fill_opacity=round(0.85 * (bits - least) / max(1, most - least), 3),
            data_tip=f"{bits} bits",
        )
        for row, line in enumerate(grid)
        for column, bits in enumerate(line)
    ]
    size = f"0 0 {len(grid[0])} {len(grid)}"
    return element("svg", *cells, viewBox=size, preserveAspectRatio="none", aria_hidden="true")
