// The interactive map: cases are found by mouse, by keyboard or by id.

import { h, s } from "mdal/dom.js";
import { count } from "mdal/format.js";
import { MapCard } from "mdal/map_card.js";
import { MapChart } from "mdal/map_chart.js";
import { legend } from "mdal/map_legend.js";

const OFFERED = 20;  // ids under the search field

export class InteractiveMap {
  #cases; #card; #spoken; #mark; #place = null;

  constructor(source, cases) {
    this.#cases = cases;
    this.#spoken = h("p", { class: "spoken", "aria-live": "polite" });
    const name = `Map of ${count(cases.count, "case")}. Arrow keys step through the cases in the plan's order, ` +
      "Enter opens a case, plus and minus zoom.";
    this.canvas = h("canvas", { tabindex: 0, role: "application", "aria-label": name });
    this.#mark = h("div", { class: "map-mark", hidden: true }, s("svg", { viewBox: "0 0 40 40", "aria-hidden": true },
      s("path", { d: "M20 0v10M20 30v10M0 20h10M30 20h10" })));
    this.#card = new MapCard(source, cases);
    this.chart = new MapChart(this.canvas, cases, () => this.#follow());
    this.node = h("div", { class: "map" },
      h("div", { class: "map-box" }, this.canvas, this.#mark, this.#card.node),
      h("section", { class: "map-side" }, this.#search(), this.#buttons(), legend(cases)),
      this.#spoken);
    this.#listen();
  }

  close() {
    this.chart.close();
    this.#card.close();
  }

  #listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointermove", event => {
      if (!event.buttons) this.#look(this.chart.at(event.offsetX, event.offsetY));
    });
    canvas.addEventListener("pointerleave", () => this.#look(null));
    canvas.addEventListener("blur", () => this.#look(null));
    canvas.addEventListener("click", event => this.#open(this.chart.at(event.offsetX, event.offsetY)));
    canvas.addEventListener("keydown", event => this.#press(event));
  }

  #press(event) {
    const last = this.#cases.count - 1;
    const here = this.#place;
    const keys = {
      ArrowRight: () => this.go(here === null ? 0 : Math.min(last, here + 1)),
      ArrowLeft: () => this.go(here === null ? 0 : Math.max(0, here - 1)),
      Home: () => this.go(0),
      End: () => this.go(last),
      Enter: () => this.#open(here),
      Escape: () => this.#look(null),
      "+": () => this.chart.zoomBy(1.5),
      "-": () => this.chart.zoomBy(1 / 1.5),
      0: () => this.chart.showAll(),
    };
    const act = keys[{ ArrowDown: "ArrowRight", ArrowUp: "ArrowLeft" }[event.key] ?? event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }

  // Show a case, and announce it to screen readers.
  go(place) {
    if (this.#cases.isMapped(place)) this.chart.reveal(place);
    this.#look(place);
    const parts = ["title", "rank", "words", "state"].map(what => this.#cases[what](place));
    this.#spoken.textContent = parts.join("; ");
  }

  #look(place) {
    if (place === this.#place) return;
    this.#place = place;
    this.canvas.classList.toggle("pointing", place !== null);
    this.#mark.hidden = place === null;
    if (place === null) return this.#card.hide();
    this.#card.show(place);
    this.#follow();
  }

  // Keep the mark and the card where the case is.
  #follow() {
    if (this.#place === null) return;
    const [x, y] = this.chart.position(this.#place);
    [this.#mark.style.left, this.#mark.style.top] = [`${x}px`, `${y}px`];
    this.#card.move(x, y);
  }

  #open(place) {
    if (place !== null) location.hash = this.#cases.address(place);
  }

  #search() {
    const options = h("datalist", { id: "found-cases" });
    const field = h("input", { type: "search", list: "found-cases", autocomplete: "off", spellcheck: "false" });
    const problem = h("p", { role: "alert" });
    field.addEventListener("input", () => options.replaceChildren(
      ...this.#cases.find(field.value, OFFERED).map(place => h("option", { value: this.#cases.id(place) }, this.#cases.title(place)))));
    const find = event => {
      event.preventDefault();
      const [place] = this.#cases.find(field.value, 1);
      problem.textContent = place === undefined ? `No case of this plan has "${field.value}" in its name.` : "";
      if (place === undefined) return;
      this.canvas.focus();
      this.go(place);
    };
    return h("form", { role: "search", onsubmit: find },
      h("label", {}, "Find a case", field), h("button", { type: "submit" }, "Show it"), options, problem);
  }

  #buttons() {
    const button = (text, act) => h("button", { type: "button", onclick: act }, text);
    return h("div", { class: "map-zoom", role: "group", "aria-label": "Zoom of the map" },
      button("Zoom in", () => this.chart.zoomBy(1.5)),
      button("Zoom out", () => this.chart.zoomBy(1 / 1.5)),
      button("Whole map", () => this.chart.showAll()));
  }
}
