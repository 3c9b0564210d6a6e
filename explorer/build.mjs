// node build.mjs ENTRIES.json PRESETS OUT: one page with everything in it, and the presets' pictures.

import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const [source, presets, out] = process.argv.slice(2);
const entries = JSON.parse(readFileSync(source, "utf8"));
const bundled = await build({
  entryPoints: [join(here, "src/main.js")],
  bundle: true,
  minify: true,
  write: false,
  target: "es2023",
  format: "iife",
});
// The page is parsed as HTML first: nothing in it may end its own element.
const script = bundled.outputFiles[0].text.replaceAll("</script", "<\\/script").trim();
const parts = {
  style: readFileSync(join(here, "style.css"), "utf8"),
  entries: JSON.stringify(entries).replaceAll("<", "\\u003c"),
  script,
  hash: `sha256-${createHash("sha256").update(script).digest("base64")}`,
};
const page = readFileSync(join(here, "page.html"), "utf8").replace(
  /{{(\w+)}}/g,
  (_, name) => parts[name],
);

rmSync(join(out, "pictures"), { recursive: true, force: true });
mkdirSync(out, { recursive: true });
writeFileSync(join(out, "index.html"), page);
for (const entry of entries) {
  for (const name of entry.pictures) {
    cpSync(join(presets, entry.name, name), join(out, "pictures", entry.name, name));
  }
}
console.log(
  `${join(out, "index.html")}: ${entries.length} entries, ${Math.round(page.length / 1000)} kB`,
);
