// Renders SVG files as PNG files on white: node rasterise.mjs LIBRARY FROM TO SIDE
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [library, from, to, side] = process.argv.slice(2)
const { initWasm, Resvg } = await import(pathToFileURL(join(library, 'index.mjs')))
await initWasm(await readFile(join(library, 'index_bg.wasm')))
const options = {
  background: 'white',
  fitTo: { mode: 'width', value: Number(side) },
  font: { loadSystemFonts: false }
}
for (const name of await readdir(from)) {
  const image = new Resvg(await readFile(join(from, name), 'utf8'), options).render()
  await writeFile(join(to, name.replace(/\.svg$/, '.png')), image.asPng())
}
