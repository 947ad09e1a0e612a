"use strict";

const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();

/** Sorts the rows by a column: numbers as numbers, anything else as text; the second time in reverse. */
function sortBy(table, column) {
  const heads = table.tHead.rows[0].cells;
  const descending = heads[column].getAttribute("aria-sort") === "ascending";
  const rows = [...table.tBodies[0].rows];
  const keys = new Map(rows.map((row) => [row, value(row, column)]));
  const numeric = [...keys.values()].every((key) => key !== "" && !Number.isNaN(Number(key)));
  const compare = numeric
    ? (a, b) => Number(keys.get(a)) - Number(keys.get(b))
    : (a, b) => keys.get(a).localeCompare(keys.get(b));
  rows.sort((a, b) => (descending ? -compare(a, b) : compare(a, b)));
  table.tBodies[0].append(...rows);
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, column));
    head.append(button);
  });
}

/** Hides the rows that lack the text, or have another value in the column of a list. */
function filter(form, table) {
  const wanted = form.elements.text.value.trim().toLowerCase();
  const lists = [...form.querySelectorAll("select")].filter((list) => list.value);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const words = [...row.cells].map((cell) => `${cell.textContent} ${cell.dataset.value ?? ""}`);
    const fits = lists.every((list) => value(row, Number(list.dataset.column)) === list.value);
    row.hidden = !(fits && words.join(" ").toLowerCase().includes(wanted));
    shown += row.hidden ? 0 : 1;
  }
  form.querySelector("output").textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
}

for (const form of document.querySelectorAll("form.filter")) {
  const table = document.getElementById(form.dataset.table);
  form.addEventListener("input", () => filter(form, table));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(form, table);
}
