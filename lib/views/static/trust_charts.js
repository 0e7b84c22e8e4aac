// Charts of a plan's cases: agreement of trainings, correlations of the order, MD by protocol.

import { Chart } from "mdal/chart.js";
import { h, s, table } from "mdal/dom.js";
import { count, signed } from "mdal/format.js";

const DIFFERENCE = "modality difference (MD)";

// For each pair of modalities: two trainings against each other.
export function agreement(pairs) {
  const rows = pairs.flatMap(({ pair, agreement: found }) => found.map(({ seeds, spearman, of }) =>
    [pair, seeds.map(seed => seed + 1).join(" and "), signed(spearman), of]));
  const heading = h("h2", {}, "Do trainings from different seeds agree?");
  if (!rows.length) {
    const missing = "There was only one training, so this is not known. Set --conf scoring=full and score again.";
    return [heading, h("p", {}, missing)];
  }
  return [
    heading,
    h("p", {}, "Each dot is a case, scored by two trainings that differ only in their random seed. The closer the dots ",
      "lie to a rising line, the less of the order is chance. The check above takes the mean over the pairs, with ",
      "each fold on one scale."),
    h("div", { class: "cards charts" }, pairs.filter(({ cases }) => cases.length).map(pairCard)),
    h("div", { class: "wide-chart" }, table({
      caption: "Rank correlation of two trainings",
      columns: ["Pair", "Trainings", "Spearman", "Cases"], rows, right: ["Spearman", "Cases"],
    })),
  ];
}

function pairCard({ pair, agreement: [{ spearman }], cases, of, nats: [first, second] }) {
  const note = spearman === null ? "Spearman not known." : `Spearman ${signed(spearman)}.`;
  const chart = new Chart({
    label: `Difference of ${pair} by two trainings, one dot per case. ${note}`,
    x: { values: first, label: "training 1, difference in nats" },
    y: { values: second, label: "training 2, difference in nats" },
  }).dots(first, second, cases);
  return card(pair, chart, note, drawn(cases, of));
}

// For each measured property: the difference against it.
export function properties(measured) {
  const heading = h("h2", {}, "Does the order follow something simpler?");
  if (!measured.length) {
    const missing = "This plan has no measured properties of the cases. Score the pool again to see them.";
    return [heading, h("p", {}, missing)];
  }
  return [
    heading,
    h("p", {}, "Each dot is a case. If the dots rise or fall along a line, the plan may rank by that property instead ",
      "of the modality difference; the check fails beyond a correlation of \u00b10.5."),
    h("div", { class: "cards charts" }, measured.map(propertyCard)),
  ];
}

function propertyCard({ name, unit, correlation, of, cases, values, differences }) {
  const note = correlation === null ? "Correlation not known." : `Correlation ${signed(correlation)}.`;
  const titles = cases.map((id, place) => `${id}: ${values[place]} ${unit}, MD ${signed(differences[place])}`);
  const chart = new Chart({
    label: `MD against ${name}, one dot per case. ${note}`,
    x: { values, label: unit ? `${name} (${unit})` : name },
    y: { values: differences, label: DIFFERENCE },
  }).dots(values, differences, titles);
  return card(name, chart, note, drawn(cases, of));
}

// The difference of the cases of each voxel size.
export function protocols({ groups, sizes, cases }) {
  if (!sizes) return [];
  const heading = h("h2", {}, "MD by scanner protocol");
  const note = "Protocols are distinguished by the voxel size of the reference modality: "
    + `${count(sizes, "size")} in ${count(cases, "case")}.`;
  if (!groups.length) return [heading, h("p", {}, `${note} No size has three cases, so no sizes can be compared.`)];
  const figures = ["Least", "Lower quarter", "Median", "Upper quarter", "Most"];
  return [
    heading,
    h("p", {}, note, " Sizes with at least three cases are shown. A box holds the middle half of the cases; the line ",
      "in it is the median."),
    h("div", { class: "wide-chart" }, protocolChart(groups), table({
      caption: "MD by voxel size",
      columns: ["Voxel size", "Cases", ...figures],
      rows: groups.map(group => [sizeOf(group), group.cases, ...group.quartiles.map(value => signed(value))]),
      right: ["Cases", ...figures],
    })),
  ];
}

const sizeOf = group => `${group.voxel_mm.join(" \u00d7 ")} mm`;

function protocolChart(groups) {
  const chart = new Chart({
    label: "Quartiles of MD for each voxel size; the table below has the figures.",
    x: { values: groups.flatMap(group => group.quartiles), label: DIFFERENCE },
    y: { range: [groups.length, 0], hidden: true },
    width: 760, height: 70 + 46 * groups.length,
  });
  groups.forEach((group, place) => {
    const [least, low, median, high, most] = group.quartiles.map(value => chart.x(value));
    const y = chart.y(place + 0.7);
    chart.text(66, y - 14, `${sizeOf(group)}, ${count(group.cases, "case")}`);
    chart.add(
      s("line", { class: "whisker", x1: least, x2: most, y1: y, y2: y }),
      s("rect", { class: "box", x: low, width: Math.max(1, high - low), y: y - 7, height: 14 }),
      s("line", { class: "median", x1: median, x2: median, y1: y - 9, y2: y + 9 }));
  });
  return chart.svg;
}

function card(name, chart, ...said) {
  return h("figure", { class: "card" }, h("h3", {}, name), chart.svg, h("figcaption", {}, said));
}

function drawn(cases, of) {
  if (cases.length === of) return "";
  return ` ${count(cases.length, "case")} of ${of.toLocaleString("en")} drawn; the figure is for all cases.`;
}
