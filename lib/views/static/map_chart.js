// Dots on a canvas: the position of each case, coloured by its modality difference.

import { interpolateViridis, quadtree, scaleLinear, select, zoom, zoomIdentity } from "mdal/d3.js";

const DRAWN = "map drawn";
const LEVELS = 24;  // number of colours; dots of one colour are drawn together
const NUMBERED = 20;  // first cases of the order, with their rank on the map
const DARKEST = 0.28;  // start of viridis; darker colours look like the background
const REACH = 1.2;  // em around a dot in which the pointer selects it

export const colour = share => interpolateViridis(DARKEST + (1 - DARKEST) * Math.min(1, Math.max(0, share)));

// The modality difference at the ends of the colour scale, symmetric around 0.
export function limit(differences) {
  const sizes = differences.filter(value => value !== null).map(Math.abs).sort((a, b) => a - b);
  return Math.max(sizes[Math.floor(0.98 * (sizes.length - 1))] ?? 0, 1e-6);
}

export class MapChart {
  #context; #cases; #limit; #places; #tree; #zoom; #watch;
  #dots = [];  // pixels before zooming, by place
  #transform = zoomIdentity;
  #due = 0;

  constructor(canvas, cases, onmove) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#cases = cases;
    this.#limit = limit(cases.columns.difference);
    this.#places = cases.columns.id.map((_, place) => place).filter(place => cases.isMapped(place));
    this.#zoom = zoom().scaleExtent([1, 60]).on("zoom", event => {
      this.#transform = event.transform;
      this.redraw();
      onmove();
    });
    select(canvas).call(this.#zoom).on("dblclick.zoom", null);
    this.#watch = new ResizeObserver(() => { this.#fit(); this.#draw(); onmove(); });
    this.#watch.observe(canvas);
  }

  close() {
    this.#watch.disconnect();
    cancelAnimationFrame(this.#due);
  }

  // The case under a point of the canvas, or null.
  at(x, y) {
    const [left, top] = this.#transform.invert([x, y]);
    return this.#tree?.find(left, top, REACH * this.#em / this.#transform.k) ?? null;
  }

  // Position of a case on the canvas; the top left corner of the map for a case that is not drawn.
  position(place) {
    return this.#transform.apply(this.#dots[place] ?? [0, 0]);
  }

  // Move the map so that a case is visible.
  reveal(place) {
    const [x, y] = this.position(place);
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (x >= 0 && y >= 0 && x <= width && y <= height) return;
    select(this.canvas).call(this.#zoom.translateTo, ...this.#dots[place]);
  }

  zoomBy(factor) { select(this.canvas).call(this.#zoom.scaleBy, factor); }
  showAll() { select(this.canvas).call(this.#zoom.transform, zoomIdentity); }

  redraw() {
    cancelAnimationFrame(this.#due);
    this.#due = requestAnimationFrame(() => this.#draw());
  }

  get #em() { return parseFloat(getComputedStyle(this.canvas).fontSize); }
  get #radius() { return this.#em * Math.min(0.42, Math.max(0.16, 3 / Math.sqrt(this.#places.length))); }

  // One scale for both axes, so that distances mean the same in every direction.
  #fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const ratio = devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [width * ratio, height * ratio];
    this.#context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { x, y } = this.#cases.columns;
    const [left, right, low, high] = [x, y].flatMap(values => extent(this.#places.map(place => values[place])));
    const margin = 4 * this.#em;
    const unit = Math.min((width - margin) / ((right - left) || 1), (height - margin) / ((high - low) || 1));
    const across = scaleLinear([0, 1], [0, unit].map(pixel => pixel + width / 2 - unit * (left + right) / 2));
    const upwards = scaleLinear([0, 1], [0, -unit].map(pixel => pixel + height / 2 + unit * (low + high) / 2));
    this.#dots = x.map((value, place) => (value === null ? null : [across(value), upwards(y[place])]));
    this.#tree = quadtree(this.#places, place => this.#dots[place][0], place => this.#dots[place][1]);
    this.#zoom.extent([[0, 0], [width, height]]).translateExtent([[0, 0], [width, height]]);
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const context = this.#context;
    const style = getComputedStyle(this.canvas);
    context.clearRect(0, 0, width, height);
    const radius = this.#radius * Math.pow(this.#transform.k, 0.25);
    const shown = this.#places.map(place => [place, ...this.position(place)])
      .filter(([, x, y]) => x > -radius && y > -radius && x < width + radius && y < height + radius);
    context.lineWidth = Math.max(1, 0.28 * radius);
    context.strokeStyle = style.getPropertyValue("--chosen");
    trace(context, shown.filter(([place]) => this.#cases.isChosen(place)), 1.55 * radius);
    context.stroke();
    for (const [level, dots] of this.#byLevel(shown)) {
      context.strokeStyle = context.fillStyle = colour((level + 0.5) / LEVELS);
      context.lineWidth = Math.max(1, 0.4 * radius);
      trace(context, dots.filter(([place]) => this.#cases.isLabelled(place)), radius);
      context.fill();
      trace(context, dots, radius - context.lineWidth / 2);
      context.stroke();
    }
    context.strokeStyle = style.getPropertyValue("--text");
    context.lineWidth = Math.max(1.2, 0.3 * radius);
    context.setLineDash([radius / 2, radius / 2]);
    trace(context, shown.filter(([place]) => this.#cases.isLeased(place)), 2.1 * radius);
    context.stroke();
    context.setLineDash([]);
    this.#number(shown, radius, style);
    if (!performance.getEntriesByName(DRAWN).length) performance.mark(DRAWN);  // the benchmark reads the time
  }

  // The least different first, so that the most different lie on top.
  #byLevel(shown) {
    const levels = new Map(Array.from({ length: LEVELS }, (_, level) => [level, []]));
    for (const dot of shown) {
      const share = ((this.#cases.difference(dot[0]) ?? 0) / this.#limit + 1) / 2;
      levels.get(Math.min(LEVELS - 1, Math.max(0, Math.floor(LEVELS * share)))).push(dot);
    }
    return levels;
  }

  #number(shown, radius, style) {
    const context = this.#context;
    context.font = `600 ${0.85 * this.#em}px ${style.fontFamily}`;
    context.fillStyle = style.getPropertyValue("--text");
    context.strokeStyle = style.getPropertyValue("--back");
    context.lineWidth = 3;
    for (const [place, x, y] of shown) {
      if (place >= NUMBERED) continue;
      context.strokeText(place + 1, x + 1.8 * radius, y - 1.2 * radius);
      context.fillText(place + 1, x + 1.8 * radius, y - 1.2 * radius);
    }
  }
}

function trace(context, dots, radius) {
  context.beginPath();
  for (const [, x, y] of dots) {
    context.moveTo(x + radius, y);
    context.arc(x, y, radius, 0, 2 * Math.PI);
  }
}

function extent(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}
