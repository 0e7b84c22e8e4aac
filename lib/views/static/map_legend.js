// Legend of the map's colours and signs.

import { h, s } from "mdal/dom.js";
import { signed } from "mdal/format.js";
import { colour, limit } from "mdal/map_chart.js";

const STOPS = 12;
const [WIDTH, HEIGHT] = [260, 44];

export function legend(cases) {
  const end = limit(cases.columns.difference);
  return [
    h("h2", {}, "Legend"),
    h("p", {}, "One dot is one case. The colour is the modality difference (MD): how far the most different ",
      "places of the case depart from what is usual in the pool. A number is the place in the order."),
    bar(end),
    h("ul", { class: "signs" },
      sign("labelled", dot({ fill: true })),
      sign("not labelled", dot({})),
      cases.columns.budget && sign("within the budget", dot({ ring: "chosen" })),
      sign("held by a reader", dot({ ring: "leased" }))),
  ];
}

function bar(end) {
  const steps = Array.from({ length: STOPS }, (_, step) => step / (STOPS - 1));
  const [least, most] = [`${signed(-end, 1)} or less`, `${signed(end, 1)} or more`];
  const ticks = [[0, least, "start"], [WIDTH / 2, "0", "middle"], [WIDTH, most, "end"]];
  return s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "bar", role: "img",
    "aria-label": `Colours from blue, MD ${least}, to yellow, ${most}` },
  s("defs", {}, s("linearGradient", { id: "viridis" }, steps.map(share =>
    s("stop", { offset: share, "stop-color": colour(share) })))),
  s("rect", { width: WIDTH, height: 16, fill: "url(#viridis)" }),
  ticks.map(([x, text, anchor]) => s("text", { x, y: 36, "text-anchor": anchor }, text)));
}

function sign(text, picture) {
  return h("li", {}, picture, text);
}

function dot({ fill, ring }) {
  return s("svg", { viewBox: "0 0 24 24", "aria-hidden": true },
    s("circle", { cx: 12, cy: 12, r: 5, class: fill ? "filled" : "hollow" }),
    ring && s("circle", { cx: 12, cy: 12, r: ring === "leased" ? 10.5 : 9, class: ring }));
}
