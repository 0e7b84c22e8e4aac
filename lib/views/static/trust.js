// Can the plan be trusted? Its checks, and how much of the pool its first cases cover.

import { Chart, lineSample } from "mdal/chart.js";
import { h, table } from "mdal/dom.js";
import { count, when } from "mdal/format.js";
import { agreement, properties, protocols } from "mdal/trust_charts.js";
import { verdict } from "mdal/verdict.js";

export const label = "Trust";
const TITLE = "Can the plan be trusted?";

export async function view(source) {
  const trust = await source.json("trust");
  const node = [verdict(trust.verdict)];
  if (trust.progress.state === "running") {
    node.push(h("p", { role: "status" }, `Scoring is running: ${trust.progress.message}.`));
  }
  if (trust.plan) {
    node.push(h("p", { class: "quiet" }, `Plan ${trust.plan.version}, made ${when(trust.plan.created)}.`));
  }
  if (trust.gates) node.push(...gates(trust.gates));
  if (trust.coverage) node.push(...coverage(trust.coverage));
  if (trust.gates) {
    node.push(folded("What the difference follows, and whether trainings agree: charts",
      ...agreement(trust.seeds), ...properties(trust.follows), ...protocols(trust.protocols)));
  }
  if (source.live && trust.progress.state !== "running") node.splice(1, 0, scoreAgain(source));
  return { title: TITLE, node };
}

// Scoring an unchanged pool ends at once, so nothing is lost by a press too many.
function scoreAgain(source) {
  const told = h("span", { role: "status" });
  const press = async () => {
    button.disabled = true;
    try {
      await source.send("/scoring/mdal", {});
      told.textContent = " The scoring is queued; this page shows the new plan when you open it again.";
    } catch (error) {
      told.textContent = ` ${error.message}`;
      button.disabled = false;
    }
  };
  const button = h("button", { type: "button", onclick: press }, "Score the pool");
  return h("p", {}, button, told);
}

const LIGHTS = { passed: ["\u2713", "good"], failed: ["\u2717", "bad"], "not known": ["?", "doubt"] };

function light(word) {
  const [sign, kind] = LIGHTS[word];
  return h("span", { class: `light ${kind}` }, h("span", { "aria-hidden": "true" }, sign), ` ${word}`);
}

function gates(every) {
  const [order, reading] = [every.filter(gate => gate.of_the_order), every.filter(gate => !gate.of_the_order)];
  const passed = order.filter(gate => gate.light === "passed");
  const open = order.filter(gate => gate.light !== "passed");
  return [
    h("h2", {}, "Checks of the scoring"),
    h("p", {}, `Of the ${count(order.length, "check")} that an order by the difference depends on, ${tally(order)}.`),
    open.length > 0 && checks("Failed or not known", open),
    passed.length > 0 && folded("The checks that passed", checks("Passed", passed)),
    reading.length > 0 && folded(`How to read single figures: ${count(reading.length, "check")}, ${tally(reading)}`,
      checks("Checks on single figures, and on what the order `representative` uses", reading)),
  ].filter(Boolean);
}

const checks = (caption, rows) => table({
  caption,
  columns: ["Result", "Check", "Value", "Limit", "Meaning"],
  right: ["Value"],
  rows: rows.map(gate => [light(gate.light), gate.title, gate.value === null ? "\u2013" : figure(gate.value),
    gate.limit, gate.sentence]),
});

function tally(gates) {
  const number = light => gates.filter(gate => gate.light === light).length;
  const parts = [[number("failed"), "failed"], [number("not known"), "could not be computed"], [number("passed"), "passed"]];
  return parts.filter(([found]) => found).map(([found, what]) => `${found} ${what}`).join(", ");
}

const folded = (summary, ...children) => h("details", {}, h("summary", {}, summary), children);

const figure = value => value.toFixed(2).replace("-", "\u2212");

function coverage({ at, cases, curves, strategy, budget }) {
  return [
    h("h2", {}, "How much of the pool do the first cases cover?"),
    h("p", {}, "Coverage is 0 for one random case and 1 when every case is labelled. The stop rule marks the point ",
      `after which a further label covers little more than its own case. The budget is ${budgeted(budget)}.`),
    h("div", { class: "wide-chart" }, coverageChart({ at, cases, curves, strategy, budget }),
      h("ul", { class: "series" }, curves.map((curve, place) => h("li", {}, lineSample(place), curve.strategy))),
      table({
        caption: "Coverage by strategy",
        columns: ["Strategy", "Coverage at the budget", "Stop rule after", "Order"],
        rows: curves.map(curve => [
          curve.strategy === strategy ? `${curve.strategy} (in use)` : curve.strategy,
          figure(reached(at, curve.values, budget.cases)), curve.plateau ?? "\u2013", curve.description,
        ]),
        right: ["Coverage at the budget", "Stop rule after"],
      })),
  ];
}

function budgeted({ rule, cases }) {
  if (!rule) return `the whole pool, ${count(cases, "case")}`;
  return rule === String(cases) ? count(cases, "case") : `${rule}, that is ${count(cases, "case")}`;
}

function coverageChart({ at, cases, curves, strategy, budget }) {
  const chart = new Chart({
    label: "Coverage of the pool against labelled cases, one line per strategy; the table below has the figures.",
    x: { range: [0, cases], label: "labelled cases, in the order of the plan" },
    y: { values: [...curves.flatMap(curve => curve.values), 0, 1], label: "coverage of the pool" },
    width: 760, height: 380,
  });
  curves.forEach((curve, place) => chart.line(at, curve.values, place));
  const plateau = curves.find(curve => curve.strategy === strategy)?.plateau;
  const together = plateau && Math.abs(plateau - budget.cases) < 0.02 * cases;
  if (plateau) chart.mark(plateau, `${together ? "stop rule and budget" : "stop rule"}: ${plateau}`, "mark stop");
  if (!together) chart.mark(budget.cases, `budget: ${budget.cases}`, "mark", plateau ? 1 : 0);
  return chart.svg;
}

// Value at the largest stored number of cases that is not above `cases`.
function reached(at, values, cases) {
  return values[Math.max(0, at.findLastIndex(stored => stored <= cases))];
}
