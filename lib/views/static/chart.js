// Small charts as SVG: axes, dots, lines, marks. Text beside each chart gives the same facts.

import { scaleLinear } from "mdal/d3.js";
import { s } from "mdal/dom.js";

const EDGE = { left: 66, right: 26, top: 22, bottom: 46 };
const SERIES = 8;  // line styles in style.css, by colour and by dashes

export class Chart {
  // `x` and `y`: {label, values or range, hidden?}; `label` describes the chart to screen readers.
  constructor({ label, x, y, width = 460, height = 300 }) {
    this.width = width;
    this.height = height;
    this.x = scale(x, [EDGE.left, width - EDGE.right]);
    this.y = scale(y, [height - EDGE.bottom, EDGE.top]);
    this.svg = s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    this.#axes(x, y);
  }

  add(...elements) {
    this.svg.append(...elements.flat());
    return this;
  }

  // One dot per case; `titles` are shown as tooltips.
  dots(xs, ys, titles = []) {
    const radius = xs.length > 200 ? 2 : 3.5;
    return this.add(xs.map((value, place) =>
      s("circle", { class: "dot", cx: at(this.x(value)), cy: at(this.y(ys[place])), r: radius },
        titles[place] ? s("title", {}, titles[place]) : null)));
  }

  line(xs, ys, series) {
    const path = xs.map((value, place) => `${place ? "L" : "M"}${at(this.x(value))},${at(this.y(ys[place]))}`).join("");
    return this.add(s("path", { class: `line series-${series % SERIES}`, d: path }));
  }

  text(x, y, words, attributes = {}) {
    return this.add(s("text", { x: at(x), y: at(y), ...attributes }, words));
  }

  // A vertical line at a value, with its name at the top; `row` 1 puts the name one line lower.
  mark(value, words, kind = "mark", row = 0) {
    const place = at(this.x(value));
    const late = place > this.width / 2;
    this.add(s("line", { class: kind, x1: place, x2: place, y1: EDGE.top - 6, y2: this.height - EDGE.bottom }));
    return this.text(place + (late ? -4 : 4), EDGE.top - 8 + 17 * row, words, { "text-anchor": late ? "end" : "start" });
  }

  #axes(x, y) {
    const bottom = this.height - EDGE.bottom;
    for (const tick of this.x.ticks(x.whole ? Math.min(6, this.x.domain()[1] - this.x.domain()[0]) : 5)) {
      const place = at(this.x(tick));
      this.add(s("line", { class: "axis", x1: place, x2: place, y1: bottom, y2: bottom + 5 }));
      this.text(place, bottom + 19, number(tick), { "text-anchor": "middle" });
    }
    for (const tick of y.hidden ? [] : this.y.ticks(5)) {
      const place = at(this.y(tick));
      this.add(s("line", { class: "grid", x1: EDGE.left, x2: this.width - EDGE.right, y1: place, y2: place }));
      this.text(EDGE.left - 7, place + 4, number(tick), { "text-anchor": "end" });
    }
    this.add(s("line", { class: "axis", x1: EDGE.left, x2: this.width - EDGE.right, y1: bottom, y2: bottom }));
    this.text((EDGE.left + this.width - EDGE.right) / 2, this.height - 8, x.label, { "text-anchor": "middle" });
    const middle = at((EDGE.top + bottom) / 2);
    if (!y.hidden) this.text(15, middle, y.label, { "text-anchor": "middle", transform: `rotate(-90 15 ${middle})` });
  }
}

// A short line for a legend.
export function lineSample(series) {
  return s("svg", { viewBox: "0 0 40 12", "aria-hidden": "true" },
    s("path", { class: `line series-${series % SERIES}`, d: "M0,6L40,6" }));
}

function scale({ values, range }, place) {
  const [low, high] = range ?? [Math.min(...values), Math.max(...values)];
  const room = range ? 0 : 0.04 * (high - low) || 0.5;
  return scaleLinear().domain([low - room, high + room]).range(place);
}

const at = value => Math.round(10 * value) / 10;
const number = value => value.toLocaleString("en", { maximumFractionDigits: 3 }).replace("-", "\u2212");
