// The sender without Python: preprocess with sender.onnx, encode with sharp.
//
//   precomp export runs/mine --output pair
//   node send.mjs pair/sender.onnx photo.jpg 20 small.jpg
import { readFile, writeFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import sharp from "sharp";

const [model, input, quality, output] = process.argv.slice(2);
if (output === undefined) {
  console.error("usage: node send.mjs SENDER.onnx IMAGE QUALITY OUTPUT.jpg");
  process.exit(2);
}

// upright, in sRGB, without transparency and metadata: (height, width, 3) uint8
const { data, info } = await sharp(await readFile(input))
  .rotate()
  .toColourspace("srgb")
  .flatten({ background: "white" })
  .raw()
  .toBuffer({ resolveWithObject: true });

const session = await ort.InferenceSession.create(model);
const { sent } = await session.run({
  image: new ort.Tensor("uint8", new Uint8Array(data), [info.height, info.width, 3]),
  quality: new ort.Tensor("float32", Float32Array.of(Number(quality)), []),
});

const [height, width] = sent.dims;
const payload = await sharp(Buffer.from(sent.data), { raw: { width, height, channels: 3 } })
  .jpeg({ quality: Number(quality), chromaSubsampling: "4:2:0", optimizeCoding: true, mozjpeg: false })
  .toBuffer();
await writeFile(output, payload);
console.log(`${output}: ${payload.length} bytes, ${((8 * payload.length) / (info.width * info.height)).toFixed(3)} bpp`);
