// Is the model getting better? Its versions, their validation, and the version that answers.

import { Chart, lineSample } from "mdal/chart.js";
import { h, table } from "mdal/dom.js";
import { count, duration, when } from "mdal/format.js";

export const label = "Model";
const LOOK_MS = 5000;  // interval between two requests during a training

export async function view(source) {
  const node = h("div", {});
  let timer = 0;
  let message = "";
  let open = true;

  async function choose(version) {
    for (const button of node.querySelectorAll("button")) button.disabled = true;
    try {
      const model = await source.send("model/served", { version });
      message = `Version ${model.answers.version} answers from now on, for every reader.`;
      show(model);
    } catch (error) {
      message = error.message;
      show(await source.json("model"));
    }
    node.querySelector("#answering").focus();
  }

  async function train() {
    for (const button of node.querySelectorAll("button")) button.disabled = true;
    try {
      await source.send("/train/ciml", {});
      message = "The training is queued.";
    } catch (error) {
      message = error.message;
    }
    const model = await source.json("model");
    if (message === "The training is queued.") model.training = { state: "running", epoch: 0, total_epochs: 1 };
    show(model);
  }

  function show(model) {
    clearTimeout(timer);
    node.replaceChildren(...parts(model, message, source.live ? choose : null, source.live ? train : null));
    if (source.live && open && model.training.state === "running") timer = setTimeout(look, LOOK_MS);
  }

  async function look() {
    try {
      const model = await source.json("model");
      if (!open) return;
      if (model.training.state !== "running") return show(model);
      node.querySelector("#training").replaceWith(training(model.training));
    } catch { /* the server is busy or gone: ask again next time */ }
    if (open) timer = setTimeout(look, LOOK_MS);
  }

  show(await source.json("model"));
  return { title: "Is the model getting better?", node, close: () => { open = false; clearTimeout(timer); } };
}

function parts(model, message, choose, train) {
  const begin = train && model.training.state !== "running" && h("p", {}, button("Train", train));
  if (!model.versions.length) {
    return [h("p", { id: "answering", class: "headline", tabindex: -1 }, model.sentence), begin,
      h("p", { role: "status" }, message), training(model.training)].filter(Boolean);
  }
  return [
    h("p", { id: "answering", class: "headline", tabindex: -1 }, model.headline),
    h("p", {}, `Version ${model.answers.version} answers. ${model.answers.why}`),
    begin || "",
    h("p", { role: "status" }, message),
    training(model.training),
    ...curve(model),
    ...more(model),
    ...versions(model, choose),
    ...failures(model),
  ];
}

const STATES = {
  done: "The last training is done",
  failed: "The last training failed",
  stopped: "The last training was stopped",
};

function training(stats) {
  const node = h("div", { id: "training" });
  if (!stats.state) return node;
  for (const sentence of stats.warnings ?? []) node.append(h("p", { class: "warning" }, sentence));
  if (stats.state !== "running") {
    const sentence = `${STATES[stats.state] ?? stats.state}. ${stats.message ?? ""}`;
    node.append(h("p", { class: stats.state === "failed" ? "problem" : null }, sentence));
    return node;
  }
  const left = stats.seconds_left ? `, ${duration(stats.seconds_left)} left` : "";
  node.append(h("label", { class: "job" }, `Training runs: epoch ${stats.epoch} of ${stats.total_epochs}${left}`,
    h("progress", { max: stats.total_epochs, value: stats.epoch })));
  return node;
}

function curve({ regions, versions: every, validations }) {
  const judged = every.filter(version => version.dice_by_region && version.validation);
  const heading = h("h2", {}, "Dice against labelled patients");
  if (!judged.length) {
    return [heading, h("p", {}, "No version has been validated, so there is no curve to draw.")];
  }
  const labelled = judged.map(patients);
  const chart = new Chart({
    label: "Dice of each region against labelled patients, one point per version; the table below has the figures.",
    x: { range: [0, Math.max(...labelled) + 1], label: "labelled patients, training and validation", whole: true },
    y: { range: [0, 1], label: "Dice on the validation patients" },
    width: 760, height: 360,
  });
  regions.forEach((region, series) => {
    const has = judged.filter(version => region in version.dice_by_region);
    for (const { name } of validations) {
      const alike = has.filter(version => version.validation === name);
      chart.line(alike.map(patients), alike.map(version => version.dice_by_region[region]), series);
    }
    chart.dots(has.map(patients), has.map(version => version.dice_by_region[region]),
      has.map(version => `version ${version.version}: ${region} ${version.dice_by_region[region].toFixed(3)}`));
  });
  if (regions.length === 1) {  // the interval is that of the mean over the regions
    for (const version of judged.filter(each => each.dice_interval)) {
      chart.line([patients(version), patients(version)], version.dice_interval, 0);
    }
  }
  for (const number of new Set(labelled)) {
    const names = judged.filter(version => patients(version) === number).map(version => `v${version.version}`);
    chart.text(chart.x(number), 12, names.join(" "), { "text-anchor": "middle" });
  }
  return [
    heading,
    h("div", { class: "wide-chart" }, chart.svg,
      h("ul", { class: "series" }, regions.map((region, series) => h("li", {}, lineSample(series), region)))),
    h("p", {}, "Compare only versions with the same validation patients; they share a letter and a line. ",
      "A training is published after such a comparison: the new version is compared with the previous one on the ",
      "same patients.", regions.length === 1 ? " A vertical line is the 95 % interval over them." : ""),
    h("ul", {}, validations.map(({ name, patients: ids }) => h("li", {}, `${name}: ${ids.join(", ")}`))),
  ];
}

// What the coming labels are expected to bring, and what they cost.
function more({ gain, effort }) {
  return [h("h2", {}, "What do more labels bring?"), h("p", { class: "gain" }, h("strong", {}, gain.headline)),
    h("p", {}, gain.evidence), h("p", {}, effort)];
}

const patients = version => version.learned_patients + version.validation_patients;
const dice = value => value?.toFixed(3) ?? "\u2013";
const within = ends => (ends ? ` [${ends.map(end => end.toFixed(2)).join(", ")}]` : "");

function versions({ versions: every, regions, answers }, choose) {
  const may = choose;
  const named = regions.length > 1 ? regions : [];
  const right = ["Training patients", "Dice", ...named];
  const rows = every.toReversed().map(version => [
    `${version.version}`,
    version.created ? when(version.created) : "\u2013",
    version.learned_patients || "\u2013",
    version.validation ? `${version.validation} (${count(version.validation_patients, "patient")})` : "\u2013",
    version.problem ? h("span", { class: "bad" }, version.problem) : dice(version.dice) + within(version.dice_interval),
    ...named.map(region => dice(version.dice_by_region?.[region])),
    before(version),
    version.went_on_from ? `version ${version.went_on_from}` : "new weights",
    version.answers ? h("strong", {}, "answers") : may && !version.problem
      ? button(`Let version ${version.version} answer`, () => choose(version.version)) : "",
  ]);
  const columns = [
    "Version", "Made", "Training patients", "Validated on", "Dice", ...named, "Previous version, same patients",
    "Started from", "Answers",
  ];
  return [
    h("h2", {}, "Versions"),
    h("p", {}, answers.rule),
    table({ caption: "Versions, newest first", columns, rows, right }),
    ...(may && answers.chosen ? [h("p", {}, button("Let the newest answer again", () => choose(0)))] : []),
  ];
}

const button = (words, onclick) => h("button", { type: "button", onclick }, words);

function before({ previous_dice: value, previous_version: version }) {
  return value === undefined ? "\u2013" : `${dice(value)} (version ${version})`;
}

function failures({ cases, answers }) {
  if (!cases.rows.length && !cases.sentence) return [];
  const heading = h("h2", {}, `Validation patients of version ${answers.version}`);
  if (!cases.rows.length) return [heading, h("p", {}, cases.sentence)];
  return [heading, h("div", { class: "wide-chart" }, table({
    caption: "Validation patients, worst first; Dice is the mean over the regions",
    columns: ["Case", "Dice"],
    rows: cases.rows.map(({ case: id, dice: value, here }) => [
      here ? h("a", { href: `#case/${encodeURIComponent(id)}` }, id) : `${id} (no longer in the pool)`, dice(value),
    ]),
    right: ["Dice"],
  }))];
}
