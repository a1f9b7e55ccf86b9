// The receiver without Python: decode with sharp, restore with receiver.onnx, hand the tensor to a network.
//
//   node receive.mjs pair/receiver.onnx small.jpg 1080 1920 input.f32
import { readFile, writeFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import sharp from "sharp";

const [model, input, height, width, output] = process.argv.slice(2);
if (output === undefined) {
  console.error("usage: node receive.mjs RECEIVER.onnx IMAGE HEIGHT WIDTH OUTPUT.f32");
  process.exit(2);
}

const { data, info } = await sharp(await readFile(input)).removeAlpha().raw().toBuffer({ resolveWithObject: true });
const session = await ort.InferenceSession.create(model);
const { input: restored } = await session.run({
  decoded: new ort.Tensor("uint8", new Uint8Array(data), [info.height, info.width, 3]),
  size: new ort.Tensor("int64", BigInt64Array.of(BigInt(height), BigInt(width)), [2]),
});

// (1, 3, height, width) float32, normalized as the file says: what the network at the receiver takes
await writeFile(output, Buffer.from(restored.data.buffer, restored.data.byteOffset, restored.data.byteLength));
console.log(`${output}: ${restored.dims.join(" x ")}`);
