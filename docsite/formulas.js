// Reads a JSON list of [formula, display] from stdin, writes the list of their HTML. A formula that does not parse ends it.
const katex = require(process.argv[2]);
const formulas = JSON.parse(require("fs").readFileSync(0, "utf8"));
try {
  const html = formulas.map(([formula, displayMode]) => katex.renderToString(formula, { displayMode, strict: "error" }));
  process.stdout.write(JSON.stringify(html));
} catch (error) {
  process.stderr.write(error.message);
  process.exit(1);
}
