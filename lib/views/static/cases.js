// All cases in one table, which sorts by any column and filters by state, reader, structure and name.

import { h } from "mdal/dom.js";
import { count, signed } from "mdal/format.js";

export const label = "Cases";
const LISTED = 200;  // rows before the button that shows all
const COLUMNS = [
  { name: "Place", value: row => row.place, number: true },
  { name: "Case", value: row => row.title, show: row => named(row) },
  { name: "State", value: row => row.state },
  { name: "Reader", value: row => row.reader },
  { name: "Structures", value: row => row.structures.join(", ") },
  { name: "Difference", value: row => row.difference, show: row => (row.difference === null ? "" : signed(row.difference)), number: true },
  { name: "Findings", value: row => row.findings || null, number: true },
];

export async function view(source) {
  const { cases, random } = await source.json("cases");
  const rows = h("tbody", {});
  const message = h("p", { role: "status", class: "quiet" });
  const more = h("button", { type: "button", onclick: () => draw(true) });
  const columns = COLUMNS.filter(({ value }) => cases.some(row => value(row)));  // none that is empty throughout
  const heads = columns.map(column => h("th", { scope: "col", class: column.number ? "number" : null },
    h("button", { type: "button", class: "plain", onclick: () => sort(column) }, column.name)));
  const text = h("input", { type: "search", oninput: () => draw() });
  const filters = [
    filter("State", row => [row.state]),
    filter("Reader", row => (row.reader ? [row.reader] : [])),
    filter("Structure", row => row.structures),
  ];
  let by = COLUMNS[0];
  let down = false;

  function filter(name, values) {
    const known = [...new Set(cases.flatMap(values))].sort();
    const select = h("select", { onchange: () => draw() }, h("option", { value: "" }, "all"),
      known.map(value => h("option", { value }, value)));
    return {
      node: known.length > 0 && h("label", {}, name, select),
      fits: row => !select.value || values(row).includes(select.value),
    };
  }

  function sort(column) {
    down = column === by && !down;
    by = column;
    draw();
  }

  function draw(all = false) {
    const wanted = text.value.trim().toLowerCase();
    const found = cases.filter(row => filters.every(({ fits }) => fits(row))
      && `${row.title} ${row.id}`.toLowerCase().includes(wanted));
    found.sort((a, b) => compare(by.value(a), by.value(b), down) || compare(a.title, b.title, false));
    const shown = all ? found : found.slice(0, LISTED);
    heads.forEach((head, place) => {
      if (columns[place] === by) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    rows.replaceChildren(...shown.map(row => h("tr", {}, columns.map(column =>
      h("td", { class: column.number ? "number" : null }, (column.show ?? column.value)(row) ?? "")))));
    message.textContent = `${found.length.toLocaleString("en")} of ${count(cases.length, "case")}`;
    more.textContent = `Show all ${found.length.toLocaleString("en")}`;
    more.hidden = shown.length === found.length;
  }

  draw();
  return {
    title: "All cases",
    node: [
      random && h("p", { class: "quiet" }, "The places are those of a random order, with likely damaged scans last."),
      h("form", { class: "controls", onsubmit: event => event.preventDefault() },
        h("label", {}, "Find", text), filters.map(({ node }) => node)),
      message,
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "All cases" },
        h("table", {}, h("caption", { class: "spoken" }, "All cases; the buttons in the heads sort them"),
          h("thead", {}, h("tr", {}, heads)), rows)),
      more,
    ].filter(Boolean),
  };
}

// Empty cells come last, whichever way the column is sorted.
function compare(a, b, down) {
  const [noA, noB] = [a, b].map(value => value === null || value === "");
  if (noA || noB) return noA - noB;
  const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  return down ? -order : order;
}

function named({ id, title }) {
  return h("a", { href: `#case/${encodeURIComponent(id)}`, title: title === id ? null : id }, title);
}
