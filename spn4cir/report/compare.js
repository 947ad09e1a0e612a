"use strict";

const form = document.getElementById("filter");
const list = document.getElementById("list");
const articles = [...list.children];

const facts = new Map(
  articles.map((article, position) => {
    const { won, lost, places, a, b, category } = article.dataset;
    const text = article.querySelector("q").textContent.toLowerCase();
    const words = (measures) => measures.split(" ").filter(Boolean);
    return [
      article,
      { position, text, category, won: words(won), lost: words(lost), places: Number(places), a: Number(a), b: Number(b) },
    ];
  }),
);

const orders = {
  "": (x, y) => x.position - y.position,
  change: (x, y) => Math.abs(y.places) - Math.abs(x.places),
  gain: (x, y) => y.places - x.places,
  loss: (x, y) => x.places - y.places,
  a: (x, y) => x.a - y.a,
  b: (x, y) => x.b - y.b,
};

/** Whether a query has the result: won and lost by the measure, or by any; better, worse and same by its rank. */
function hasResult(query, result, measure) {
  if (result === "won" || result === "lost") {
    return measure ? query[result].includes(measure) : query[result].length > 0;
  }
  return { "": true, better: query.places > 0, worse: query.places < 0, same: query.places === 0 }[result];
}

/** Shows the queries that fit the form, in its order. */
function update() {
  const { words, result, measure, category, places, order } = form.elements;
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const [article, query] of facts) {
    const fits =
      hasResult(query, result.value, measure.value) &&
      (!category.value || query.category === category.value) &&
      Math.abs(query.places) >= Number(places.value) &&
      wanted.every((word) => query.text.includes(word));
    article.hidden = !fits;
    shown += fits ? 1 : 0;
  }
  const compare = orders[order.value];
  list.append(...[...articles].sort((x, y) => compare(facts.get(x), facts.get(y))));
  form.querySelector("output").textContent = `${shown} of ${articles.length} queries`;
}

/** Moves the focus to the next query that is shown, or to the one before. */
function step(direction) {
  const shown = [...list.children].filter((article) => !article.hidden);
  const here = shown.indexOf(document.activeElement.closest(".query"));
  const next = here < 0 ? 0 : Math.min(Math.max(here + direction, 0), shown.length - 1);
  shown[next]?.focus();
}

form.addEventListener("input", update);
form.addEventListener("reset", () => setTimeout(update));
form.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
  if (event.key === "/") {
    event.preventDefault();
    form.elements.words.focus();
  }
});
// After the browser has restored the fields, when a person comes back to the page.
addEventListener("pageshow", update);
