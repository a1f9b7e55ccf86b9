"""What of BPG's image follows from the encoder's block sizes and prediction modes alone, for docs/results.md.

A proxy for BPG that codes like HEVC (predicts a block from its decoded neighbours, transforms and quantizes the
rest) is given what it would have to guess: x265 writes down the sizes and modes it chose, and the proxy takes them
over. Its luma then differs from the codec's by what is left, and the gain is how much closer to the codec's luma it is
than the source's luma is, in dB, as ``precomp evaluate-proxy`` reports it for whole images:

- with a plain quantizer and no loop filters in x265, the proxy is x265 to the bit (its gain is infinite), which
  shows that it predicts, transforms and quantizes as the standard says; and the same when it rounds one in a hundred
  of the levels above a quarter of a step the other way;
- with the plugin's default effort, x265 also weighs every level's bits against its error, hides signs in parities and
  filters the blocks' edges, which the proxy does not know: with the codec's own unfiltered image as its
  neighbours, and with neighbours it decoded itself; and the shipped proxy, and the best mean of the latter two.

    python benchmarks/bpg_decisions.py DIR_VAL
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from precomp_bpg import BPGCodec, BPGProxy
from precomp_bpg._av import encode_frame, load_av
from precomp_bpg.colour import rgb_to_planes
from precomp_bpg.container import PixelFormat
from precomp_bpg.encoder import EFFORTS, PARAMETERS
from precomp_data import Geometry, UnlabelledFolder

Ints = NDArray[np.int64]
Quantizer = Callable[[Ints], Ints]  # a block's levels, from its scaled coefficients

SIDE_PX = 160
TREE_PX = 64  # side of a coding tree block
UNIT_PX = 4
PRESET, EXTRAS = EFFORTS["default"]
PLAIN = "sao=0:no-deblock=1:rdoq-level=0:signhide=0"
FLIPPED_SHARE = 0.01

# ITU-T H.265, tables 8-5 and 8-6: the slope of a directional mode, and its inverse
ANGLES = [0, 0, 32, 26, 21, 17, 13, 9, 5, 2, 0, -2, -5, -9, -13, -17, -21, -26]
ANGLES += [-32, *ANGLES[:1:-1]]
INVERSES = dict(zip(range(11, 19), (-4096, -1638, -910, -630, -482, -390, -315, -256), strict=True))
INVERSES |= {36 - mode: inverse for mode, inverse in INVERSES.items()}
SMOOTHED_FROM = {4: 99, 8: 7, 16: 1, 32: 0}  # clause 8.4.4.2.3: how far from horizontal and vertical, by block size
# clause 8.6.4.2: the values that the transform matrices are made of
WAVES = [64, 90, 90, 90, 89, 88, 87, 85, 83, 82, 80, 78, 75, 73, 70, 67, 64]
WAVES += [61, 57, 54, 50, 46, 43, 38, 36, 31, 25, 22, 18, 13, 9, 4, 0]
SINES = [[29, 55, 74, 84], [74, 74, 0, -74], [84, -29, -74, 55], [55, -84, 74, -29]]
SCALES = (40, 45, 51, 57, 64, 72)  # clause 8.6.3, by QP modulo 6
INVERSE_SCALES = (26214, 23302, 20560, 18396, 16384, 14564)  # 2**20 over them
ROUNDING = 171  # of 512, what x265 adds before it cuts an intra level


@dataclass(frozen=True, slots=True)
class Block:
    """A luma block that x265 chose: its place and side in samples, and its intra prediction mode."""

    x: int
    y: int
    side: int
    mode: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "images", type=Path, help="folder of photographs; downscaled to 192 pixels, 160 x 160 are taken"
    )
    parser.add_argument("--count", type=int, default=16)
    options = parser.parse_args()
    dataset = UnlabelledFolder(root=options.images, geometry=Geometry(resize=192, crop=SIDE_PX))
    places = torch.linspace(0, len(dataset) - 1, options.count).long().tolist()
    images = [dataset[place].image / 255.0 for place in places]
    codec = BPGCodec()
    proxy = BPGProxy(codec)
    print(f"{codec.version}\n")
    print("| QP | source, dB | exact | one in 100 | neighbours known | own neighbours | proxy | mean of two |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for quality in codec.quality_scale.ladder:
        print(_row(int(quality), images, proxy), flush=True)


def _row(qp: int, images: Sequence[torch.Tensor], proxy: BPGProxy) -> str:
    generator = np.random.default_rng(0)
    found = []
    for image in images:
        planes = _planes(image)
        source = planes[0].astype(np.int64)
        answer, _, blocks = encode(planes, qp, PLAIN)
        plain = [simulate(source, blocks, qp, rounded), simulate(source, blocks, qp, _flipping(generator))]
        gains = [_gain_db(source, guess, answer) for guess in plain]
        answer, unfiltered, blocks = encode(planes, qp, EXTRAS)
        own = simulate(source, blocks, qp, rounded)
        guessed = _proxy_luma(proxy, image, qp)
        guesses = [simulate(source, blocks, qp, rounded, neighbours=unfiltered), own, guessed]
        gains += [_gain_db(source, guess, answer) for guess in guesses]
        mixes = [_gain_db(source, share * own + (1.0 - share) * guessed, answer) for share in np.linspace(0, 1, 11)]
        found.append((_psnr_db(source, answer), *gains, *mixes))
    plain_db, *means = np.mean(found, axis=0)
    columns = [plain_db, *means[:5], max(means[5:])]
    return f"| {qp} | {columns[0]:.1f} | " + " | ".join(f"{value:+.1f}" for value in columns[1:]) + " |"


def _planes(image: torch.Tensor) -> list[NDArray[np.uint8]]:
    """Return what the plugin feeds x265: Y, Cb and Cr in 4:2:0, from RGB (3, H, W) in [0, 1]."""
    return rgb_to_planes((image * 255.0).round().byte().numpy(), PixelFormat.C420)


def _proxy_luma(proxy: BPGProxy, image: torch.Tensor, qp: int) -> NDArray[np.float64]:
    with torch.no_grad():
        decoded = proxy(image[None], torch.tensor([float(qp)])).images[0].double() * 255.0
    return (decoded * torch.tensor((0.299, 0.587, 0.114)).double()[:, None, None]).sum(dim=0).numpy()


def _psnr_db(one: NDArray[Any], other: NDArray[Any]) -> float:
    error = np.mean(np.square(one - other, dtype=np.float64))
    return float(10.0 * np.log10(255.0**2 / error)) if error else float("inf")


def _gain_db(source: NDArray[Any], guess: NDArray[Any], answer: NDArray[Any]) -> float:
    return _psnr_db(guess, answer) - _psnr_db(source, answer)


def encode(planes: Sequence[NDArray[np.uint8]], qp: int, extras: str) -> tuple[Ints, Ints, list[Block]]:
    """Encode planes; return x265's luma, the same before the loop filters, and its blocks in the order of coding."""
    height, width = planes[0].shape
    frame = load_av().VideoFrame(width, height, "yuv420p")
    for target, plane in zip(frame.planes, planes, strict=True):
        target.update(np.pad(plane, ((0, 0), (0, target.line_size - plane.shape[1]))))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "analysis"
        settings = f"{PARAMETERS}:qp={qp}:ctu={TREE_PX}:{extras}:analysis-save={file}:analysis-save-reuse-level=10"
        stream = encode_frame(frame, PRESET, settings)
        blocks = _read_blocks(file.read_bytes(), height, width)
    return _decoded_luma(stream, "none"), _decoded_luma(stream, "all"), blocks


def _decoded_luma(stream: bytes, skipped_filters: str) -> Ints:
    av = load_av()
    decoder = av.CodecContext.create("hevc", "r")
    decoder.options = {"skip_loop_filter": skipped_filters}
    luma = [*decoder.decode(av.Packet(stream)), *decoder.decode(None)][0].planes[0]
    samples = np.frombuffer(bytes(luma), np.uint8).reshape(luma.height, luma.line_size)[:, : luma.width]
    return samples.astype(np.int64)


def _read_blocks(data: bytes, height: int, width: int) -> list[Block]:
    """Read the one image of x265's analysis file (build 216, reuse level 10), which no document describes."""
    header = np.frombuffer(data, "<i4", count=29)
    units, (trees, units_per_tree) = int(header[21]), header[27:29].tolist()
    depths, _, parts = np.frombuffer(data, np.uint8, count=3 * units, offset=116).reshape(3, units)
    modes = np.frombuffer(data, np.uint8, offset=116 + 3 * units).reshape(trees, units_per_tree)
    columns = -(-width // TREE_PX)
    blocks, entry = [], 0
    for tree in range(trees):
        top, left = (TREE_PX * place for place in divmod(tree, columns))
        unit = 0
        while unit < units_per_tree:
            depth = int(depths[entry])
            x, y = (start + UNIT_PX * place for start, place in zip((left, top), _z_order(unit), strict=True))
            if x < width and y < height:
                side = TREE_PX >> depth
                pieces = 2 if parts[entry] == 3 or side == TREE_PX else 1  # four blocks of 4, or four transforms of 32
                for piece in range(pieces**2):
                    row, column = divmod(piece, pieces)
                    mode = modes[tree, unit + (piece if parts[entry] == 3 else 0)]
                    part = side // pieces
                    blocks.append(Block(x + part * column, y + part * row, part, int(mode)))
            unit += units_per_tree >> (2 * depth)
            entry += 1
    if entry != units or sum(block.side**2 for block in blocks) != height * width:
        raise SystemExit("This x265 writes another analysis file than build 216.")
    return blocks


def _z_order(place: int) -> tuple[int, int]:
    """Return the column and the row of a place in z-order."""
    bits = [(place >> bit) & 1 for bit in range(16)]
    column, row = (sum(bit << power for power, bit in enumerate(bits[start::2])) for start in (0, 1))
    return column, row


def simulate(
    source: Ints, blocks: Sequence[Block], qp: int, quantizer: Quantizer, *, neighbours: Ints | None = None
) -> Ints:
    """Code a luma plane as ITU-T H.265 says, without its loop filters.

    Args:
        source: (H, W).
        blocks: to code it in, with their modes.
        qp: of the slice.
        quantizer: gives a block's levels.
        neighbours: what blocks are predicted from; without them, from what was decoded.
    """
    decoded, known = np.zeros_like(source), np.zeros((source.shape[0] // UNIT_PX, source.shape[1] // UNIT_PX), bool)
    for block in blocks:
        place = np.s_[block.y : block.y + block.side, block.x : block.x + block.side]
        predicted = predict(decoded if neighbours is None else neighbours, known, block)
        rest = _decode(quantizer(_transform(source[place] - predicted, qp)), qp)
        decoded[place] = np.clip(predicted + rest, 0, 255)
        known[tuple(slice(part.start // UNIT_PX, part.stop // UNIT_PX) for part in place)] = True
    return decoded


def rounded(scaled: Ints) -> Ints:
    """Return the levels (S, S) that x265's plain quantizer gives coefficients in 1/512 of a step."""
    levels: Ints = np.sign(scaled) * ((np.abs(scaled) + ROUNDING) >> 9)
    return levels


def _flipping(generator: np.random.Generator) -> Quantizer:
    """Return `rounded`, but for a few of the levels above a quarter of a step, which go to the other neighbour."""

    def quantizer(scaled: Ints) -> Ints:
        sizes = np.abs(scaled)
        flipped = (generator.random(scaled.shape) < FLIPPED_SHARE) & (sizes > 128)
        others = (sizes >> 9) * 2 + 1 - np.abs(rounded(scaled))
        return np.where(flipped, np.sign(scaled) * others, rounded(scaled))

    return quantizer


def predict(plane: Ints, known: NDArray[np.bool_], block: Block) -> Ints:
    """Predict a block from its neighbours: ITU-T H.265, clause 8.4.4.2, for luma of 8 bit."""
    side, mode = block.side, block.mode
    border = _border(plane, known, block)
    distance = min(abs(mode - 10), abs(mode - 26))
    if mode == 0 or (mode != 1 and distance > SMOOTHED_FROM[side]):
        border = _smoothed(border, side) if side > UNIT_PX else border
    left, top = border[2 * side :: -1], border[2 * side :]  # both begin with the corner
    near, far = np.arange(side - 1, -1, -1), np.arange(1, side + 1)
    if mode == 0:
        across = near[None] * left[1 : side + 1, None] + far[None] * top[side + 1]
        down = near[:, None] * top[None, 1 : side + 1] + far[:, None] * left[side + 1]
        return (across + down + side) // (2 * side)
    if mode == 1:
        mean = (left[1 : side + 1].sum() + top[1 : side + 1].sum() + side) // (2 * side)
        flat = np.full((side, side), mean)
        if side < 32:
            flat[0] = (top[1 : side + 1] + 3 * mean + 2) >> 2
            flat[:, 0] = (left[1 : side + 1] + 3 * mean + 2) >> 2
            flat[0, 0] = (left[1] + 2 * mean + top[1] + 2) >> 2
        return flat
    vertical = mode >= 18
    ahead, aside = (top, left) if vertical else (left, top)
    angle = ANGLES[mode]
    line = np.zeros(3 * side + 1, np.int64)  # the corner lies at index side
    line[side:] = ahead
    for step in range((side * angle) >> 5, 0):
        if (side * angle) >> 5 < -1:
            line[side + step] = aside[(step * INVERSES[mode] + 128) >> 8]
    result = np.empty((side, side), np.int64)
    for row in range(side):
        whole, part = divmod((row + 1) * angle, 32)
        start = side + whole + 1
        result[row] = line[start : start + side]
        if part:
            result[row] = ((32 - part) * result[row] + part * line[start + 1 : start + 1 + side] + 16) >> 5
    if angle == 0 and side < 32:
        result[:, 0] = np.clip(result[:, 0] + ((aside[1 : side + 1] - aside[0]) >> 1), 0, 255)
    return result if vertical else result.T


def _border(plane: Ints, known: NDArray[np.bool_], block: Block) -> Ints:
    """Return the 4 S + 1 samples around a block, from below left by the corner to above right, with none missing."""
    steps = 2 * block.side
    rows = [*range(block.y + steps - 1, block.y - 1, -1), *[block.y - 1] * (steps + 1)]
    columns = [*[block.x - 1] * (steps + 1), *range(block.x, block.x + steps)]
    places = np.array([rows, columns])
    inside = ((places >= 0) & (places < np.array(plane.shape)[:, None])).all(axis=0)
    inside[inside] = known[tuple(places[:, inside] // UNIT_PX)]
    if not inside.any():
        return np.full(len(rows), 128)
    filled = np.maximum.accumulate(np.where(inside, np.arange(len(rows)), np.argmax(inside)))
    return plane[tuple(places[:, filled])]


def _smoothed(border: Ints, side: int) -> Ints:
    """Filter a border: clause 8.4.4.2.3, with its interpolation between the ends of a flat border of 32."""
    first, corner, last = border[0], border[2 * side], border[-1]
    flat = abs(first + corner - 2 * border[side]) < 8 and abs(last + corner - 2 * border[3 * side]) < 8
    if side == 32 and flat:
        places = np.arange(65)
        ramps = ((64 - places) * start + places * end + 32 >> 6 for start, end in ((first, corner), (corner, last)))
        left, top = ramps
        return np.concatenate([left, top[1:]])
    result = border.copy()
    result[1:-1] = (border[:-2] + 2 * border[1:-1] + border[2:] + 2) >> 2
    return result


def _matrix(side: int) -> Ints:
    """Return the integer transform of clause 8.6.4.2, one basis function per row: sines for 4 x 4 of luma."""
    if side == UNIT_PX:
        return np.array(SINES)
    angles = np.outer(np.arange(side), 2 * np.arange(side) + 1) * (32 // side) % 128
    folded = np.minimum(angles, 128 - angles)  # a cosine is even
    values = np.where(folded <= 32, np.array(WAVES)[np.minimum(folded, 32)], 0)
    values = np.where(folded > 32, -np.array(WAVES)[np.maximum(64 - folded, 0) % 33], values)
    values[0] = 64
    return values


MATRICES = {side: _matrix(side) for side in (4, 8, 16, 32)}


def _transform(rest: Ints, qp: int) -> Ints:
    """Transform what prediction leaves, into 1/512 of a quantization step, as encoders do in 16 bit."""
    side = len(rest)
    order = side.bit_length() - 1
    matrix = MATRICES[side]
    rows = (rest @ matrix.T + (1 << (order - 2))) >> (order - 1)
    coefficients = (matrix @ rows + (1 << (order + 5))) >> (order + 6)
    shift = 14 + qp // 6 + 7 - order
    return np.sign(coefficients) * ((np.abs(coefficients) * INVERSE_SCALES[qp % 6]) >> (shift - 9))


def _decode(levels: Ints, qp: int) -> Ints:
    """Scale and transform levels back: clauses 8.6.3 and 8.6.4, for 8 bit."""
    order = len(levels).bit_length() - 1
    matrix = MATRICES[len(levels)]
    shift = order + 3
    scaled = (levels * (16 * SCALES[qp % 6] << (qp // 6)) + (1 << (shift - 1))) >> shift
    columns = np.clip((matrix.T @ np.clip(scaled, -32768, 32767) + 64) >> 7, -32768, 32767)
    return (columns @ matrix + 2048) >> 12


if __name__ == "__main__":
    main()
