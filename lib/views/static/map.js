// The pool on a map: how much each case differs, which cases are chosen, which are labelled.

import { h, table } from "mdal/dom.js";
import { count, percent, signed } from "mdal/format.js";
import { InteractiveMap } from "mdal/interactive_map.js";
import { PlannedCases } from "mdal/planned_cases.js";

export const label = "Map";

const TITLE = "Map of the pool";
const LISTED = 50;  // chosen cases in the table
const NAMED = 5;  // quarantined cases named in the message
const ASK_MS = 5000;  // interval between two requests for the states of the cases

export async function view(source) {
  const columns = await source.json("map");
  if (columns.plan === null) return nothing(source, columns);
  const cases = new PlannedCases(columns);
  const news = h("div", { role: "status" });
  const list = new ChosenCases(cases);
  const map = columns.scored ? new InteractiveMap(source, cases) : null;
  const show = states => {
    cases.take(states);
    news.replaceChildren(...messages(states, columns));
    list.update();
    map?.chart.redraw();
  };
  const stop = follow(source, "states", show);
  const close = () => { stop(); map?.close(); };
  if (!map) return { title: TITLE, node: [news, h("p", { class: "warning" }, columns.sentence), ...list.nodes], close };
  const node = [news, ...summary(columns), map.node, ...list.nodes];
  return { title: TITLE, node, close };
}

// There is no plan: say what to do or what is running, and show the map once there is a plan.
function nothing(source, { sentence }) {
  const node = h("p", { class: "warning", role: "status" }, sentence);
  const stop = follow(source, "map", ({ plan, sentence: now }) => {
    if (plan !== null) again();
    else node.textContent = now;
  });
  return { title: TITLE, node, close: stop };
}

// Request a document regularly, and show it when it changes; a report shows it once.
function follow(source, path, show) {
  let timer = 0;
  let open = true;
  let before = "";
  const ask = async () => {
    const document = await source.json(path).catch(() => null);  // try again next time
    if (!open) return;
    const now = JSON.stringify(document);
    if (document && now !== before) show(document);
    before = now;
    if (source.live) timer = setTimeout(ask, ASK_MS);
  };
  ask();
  return () => { open = false; clearTimeout(timer); };
}

const again = () => dispatchEvent(new Event("hashchange"));

function summary({ id, chosen: number, budget, order, random, explained, note }) {
  const all = id.length.toLocaleString("en");
  const rule = budget
    ? `The budget ${budget} is ${count(number, "case")} of ${all}`
    : `All ${all} cases, without a budget`;
  const [first, second] = explained.map(percent);
  return [
    h("p", {}, `${rule}. ${random ? "The order is a random one, with likely damaged scans last" : order}.`),
    h("details", {}, h("summary", {}, "How to read the map"),
      h("p", {}, `The horizontal axis shows ${first} of the variance, the vertical axis ${second}. ${note}`)),
  ];
}

function messages({ expired, quarantined, plan }, columns) {
  const sentences = [...expired];
  if (quarantined.length) {
    const named = quarantined.slice(0, NAMED).join(", ") + (quarantined.length > NAMED ? " …" : "");
    const are = quarantined.length === 1 ? "is" : "are";
    sentences.push(`${count(quarantined.length, "case")} in quarantine ${are} not offered: ${named}.`);
  }
  const newer = plan !== columns.plan && h("p", { class: "warning" }, "There is a newer plan. ",
    h("button", { onclick: again }, "Show it"));
  return [newer || null, ...sentences.map(sentence => h("p", { class: "warning" }, sentence))].filter(Boolean);
}

// A table whose links stay the same elements while the states change, so that the keyboard focus stays.
class ChosenCases {
  #cases; #states;

  constructor(cases) {
    this.#cases = cases;
    const places = Array.from({ length: Math.min(LISTED, cases.columns.chosen) }, (_, place) => place);
    const left = cases.columns.chosen - places.length;
    this.#states = places.map(() => h("span"));
    this.nodes = [
      h("h2", {}, cases.columns.budget ? "The cases within the budget" : "The cases in their order"),
      table({
        caption: `${left ? `The first ${LISTED} of ${cases.columns.chosen}` : `All ${places.length}`}, `
          + (cases.columns.random ? "in random order" : "in the order of the plan"),
        columns: ["Rank", "Case", "MD", "Compared with the pool", "Most different pair", "State"],
        right: ["Rank", "MD"],
        rows: places.map(place => [
          place + 1, h("a", { href: cases.address(place) }, cases.title(place)), signed(cases.difference(place)),
          cases.comparison(place), cases.mostDifferentPair(place), this.#states[place],
        ]),
      }),
      left > 0 && h("p", {}, `… and ${left.toLocaleString("en")} more. Find any case by its id beside the map.`),
    ].filter(Boolean);
    this.update();
  }

  update() {
    this.#states.forEach((state, place) => { state.textContent = this.#cases.state(place); });
  }
}
