"use strict";

// Each body of a table is one item: a row, and perhaps a second one that the first opens.
const cells = (item) => [...item.rows[0].cells];
const value = (item, column) => cells(item)[column].dataset.value ?? cells(item)[column].textContent.trim();

/** Sorts the items by a column: numbers as numbers, anything else as text; the second time in reverse. */
function sortBy(table, column) {
  const heads = table.tHead.rows[0].cells;
  const descending = heads[column].getAttribute("aria-sort") === "ascending";
  const items = [...table.tBodies];
  const keys = new Map(items.map((item) => [item, value(item, column)]));
  const numeric = [...keys.values()].every((key) => key !== "" && !Number.isNaN(Number(key)));
  const compare = numeric
    ? (a, b) => Number(keys.get(a)) - Number(keys.get(b))
    : (a, b) => keys.get(a).localeCompare(keys.get(b));
  items.sort((a, b) => (descending ? -compare(a, b) : compare(a, b)));
  table.append(...items);
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

/** Hides the items that lack the text, or do not have the value of a list in their data of its name. */
function filter(form, table) {
  const wanted = form.elements.text.value.trim().toLowerCase();
  const lists = [...form.querySelectorAll("select")].filter((list) => list.value);
  let shown = 0;
  for (const item of table.tBodies) {
    const words = cells(item).map((cell) => `${cell.textContent} ${cell.dataset.value ?? ""}`);
    const fits = lists.every(({ name, value }) => [item.dataset[name], ...item.dataset[name].split(" ")].includes(value));
    item.hidden = !(fits && words.join(" ").toLowerCase().includes(wanted));
    shown += item.hidden ? 0 : 1;
  }
  form.querySelector("output").textContent = `${shown} of ${table.tBodies.length} rows`;
}

for (const button of document.querySelectorAll("button[aria-controls]")) {
  button.addEventListener("click", () => {
    const detail = document.getElementById(button.getAttribute("aria-controls"));
    detail.hidden = !detail.hidden;
    button.setAttribute("aria-expanded", String(!detail.hidden));
  });
}

for (const form of document.querySelectorAll("form.filter")) {
  const table = document.getElementById(form.dataset.table);
  form.addEventListener("input", () => filter(form, table));
  form.addEventListener("submit", (event) => event.preventDefault());
  // After the browser has restored the fields, when a person comes back to the page.
  addEventListener("pageshow", () => filter(form, table));
}
