// Elements built without HTML strings: content from files is always text, never markup.

const SVG = "http://www.w3.org/2000/svg";

// h("p", { class: "warning" }, "text", child): attributes by name, `on…` for events, false and null left out.
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

// The same within an <svg>.
export function s(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

// A table with a caption for screen readers; cells are text or elements, `right` columns are numbers.
export function table({ caption, columns, rows, right = [] }) {
  const align = column => (right.includes(column) ? "number" : null);
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map(column => h("th", { scope: "col", class: align(column) }, column)))),
      h("tbody", {}, rows.map(row => h("tr", {},
        row.map((cell, place) => h("td", { class: align(columns[place]) }, cell ?? "")))))));
}
