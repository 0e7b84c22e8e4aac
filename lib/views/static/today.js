// Today's view: the next case, progress of the plan, running jobs, cases held by readers.

import { h, table } from "mdal/dom.js";
import { count, duration, percent, when } from "mdal/format.js";
import { opening } from "mdal/opening.js";
import { verdict } from "mdal/verdict.js";

export const label = "Today";

const POLL_MS = 5000;
export const NAME = "mdal-annotator";  // key of the reader's name on this computer

export async function view(source) {
  const parts = Object.fromEntries(["about", "warnings", "why", "next", "verdict", "counts", "jobs", "readers"].map(name => [name, h("div")]));
  const name = h("input", { value: localStorage.getItem(NAME) ?? "", maxlength: 160, autocomplete: "nickname" });
  const message = h("div", { "aria-live": "polite" });
  const picture = h("div");
  let drawn = "";
  let pictured = "";

  async function refresh() {
    const today = await source.json(`today?annotator=${encodeURIComponent(name.value)}`);
    const state = JSON.stringify([name.value, today]);
    if (state === drawn) return today;  // no redraw while a reader is typing or clicking
    drawn = state;
    if (today.report) parts.about.replaceChildren(about(today));
    parts.warnings.replaceChildren(...warnings(today));
    parts.why.replaceChildren(...why(today));
    parts.next.replaceChildren(...(today.next ? next(today.next, source.live ? take : null, name.value) : []));
    const shown = today.next && `${today.next.id} ${today.verdict.level}`;  // a new plan draws boxes
    if (shown && shown !== pictured) {
      pictured = shown;
      picture.replaceChildren(...await strip(source, today.next, today.verdict.level !== "none"));
    }
    picture.hidden = !today.next;
    parts.verdict.replaceChildren(verdict(today.verdict, [" ", h("a", { href: "#trust" }, "The checks")]));
    parts.counts.replaceChildren(...counts(today.counts));
    parts.jobs.replaceChildren(...jobs(today.jobs));
    parts.readers.replaceChildren(...readers(today.readers, source.live ? today.annotator : null, giveBack));
    return today;
  }

  async function giveBack(id) {
    try {
      await source.send("today/given_back", { case: id, annotator: name.value });
    } catch (error) {
      message.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
    }
    drawn = "";
    await refresh();
  }

  async function take(event) {
    event.target.disabled = true;
    try {
      const sample = await source.send("/activelearning/random", { client_id: name.value });
      drawn = "";
      const { next: now } = await refresh();
      message.replaceChildren(...taken(sample, now?.warnings ?? []));
      message.querySelector("a, button")?.focus();
    } catch (error) {
      message.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
      drawn = "";
      await refresh();
    }
  }

  name.addEventListener("change", () => {
    localStorage.setItem(NAME, name.value);
    refresh();
  });
  await refresh();
  const timer = source.live ? setInterval(() => refresh().catch(() => { }), POLL_MS) : null;
  return {
    title: source.live ? "Today" : "Report",
    close: () => clearInterval(timer),
    node: [
      parts.about,
      parts.warnings,
      h("div", { class: "cards" },
        h("section", { class: "card" }, h("h2", {}, "The next case"),
          source.live ? h("label", { class: "above" }, "Your name", name) : null,
          parts.why, picture, parts.next, message),
        h("section", { class: "card" }, h("h2", {}, "The plan"), parts.verdict, parts.counts),
        source.live && h("section", { class: "card" }, h("h2", {}, "Running jobs"), parts.jobs),
        h("section", { class: "card" }, h("h2", {}, "Cases held by readers"), parts.readers)),
    ],
  };
}

function about({ report: { studies, made }, counts: { cases, labelled, quarantined } }) {
  return h("p", { class: "reason" }, `${studies}, ${when(made)}: ${count(cases + quarantined, "case")}, `
    + `${labelled} labelled, ${quarantined} held back.`);
}

function warnings({ empty, warnings: sentences }) {
  const all = [...(empty ? [empty] : []), ...sentences];
  return all.map(sentence => h("p", { class: sentence === empty ? "problem" : "warning" }, sentence));
}

function why({ next: found, counts: { labelled, left, budget, cases } }) {
  if (!found) {
    const done = labelled < cases && labelled >= budget ? `The budget of ${count(budget, "case")} is spent.`
      : left ? "The budget is spent, or other readers hold its last cases." : "No case is left to label.";
    return [h("p", {}, done)];
  }
  const { yours_until: until, reason, warnings: sentences } = found;
  return [
    h("p", {}, until ? `Yours until ${when(until)}: ` : null, link(found), `. ${reason}`),
    ...sentences.map(sentence => h("p", { class: "warning" }, sentence)),
  ];
}

function next(found, take, reader) {
  const { yours_until: until, study } = found;
  return [
    until || !study ? opening(found) : [],
    until || study ? [] : [h("p", {}, "In 3D Slicer, Next Sample offers this case if you use the same name.")],
    take ? button(found, take, reader) : [],
  ].flat();
}

function button({ yours_until: until, study }, take, reader) {
  if (!reader) return [h("p", { class: "quiet" }, "Enter your name to reserve the case for yourself.")];
  const text = until ? "Set it aside and take the next one" : study ? "Take this case" : "Keep it for me";
  return [h("p", {}, h("button", { class: until ? null : "main", onclick: take }, text))];
}

// What is said once about a case that was taken, apart from what is said beside it.
function taken({ id, mdal }, known) {
  return [
    h("p", {}, id ? `${id} is yours.` : "No case is left for you."),
    ...(mdal?.warnings ?? []).filter(sentence => !known.includes(sentence)).map(sentence => h("p", { class: "warning" }, sentence)),
  ];
}

async function strip(source, { id, modalities }, boxed) {
  try {
    const address = await source.picture(`cases/${encodeURIComponent(id)}/strip.jpg`);
    return [h("figure", { class: "strip" }, h("img", { src: address, alt: `${id} in ${modalities.join(", ")}` }),
      h("figcaption", {}, modalities.map(name => h("span", {}, name)))),
    ...(boxed ? [h("p", { class: "quiet" }, "A box marks where the modalities differ most.")] : [])];
  } catch (error) {
    return [h("p", { class: "quiet" }, error.message)];
  }
}

function link({ id, title }) {
  return h("a", { href: `#case/${encodeURIComponent(id)}` }, h("strong", {}, title));
}

function counts({ cases, labelled, found, leased, set_aside: aside, left, quarantined, budget }) {
  const goal = Math.min(budget, cases);
  return [
    h("p", {}, labelled > goal ? `${labelled} of ${cases} labelled, more than the budget of ${budget}`
      : [`${labelled} of ${count(goal, "case")} labelled`, goal < cases && ` (the budget; ${cases} in all)`]),
    found > 0 && h("p", { class: "quiet" }, found === 1 ? "1 label was found with the images and counts as finished; "
      : `${found} labels were found with the images and count as finished; `, h("code", {}, "--conf study_labels=ignore"),
    " starts afresh."),
    h("progress", { max: Math.max(1, goal), value: Math.min(labelled, goal), "aria-label": "Labelled cases" }),
    h("dl", { class: "figures" }, [["Labelled", labelled], ["Held by readers", leased], ["Set aside by you", aside],
      ["Left", left], ["Held back by the check", quarantined]]
      .map(([what, number]) => h("div", {}, h("dt", {}, what), h("dd", {}, String(number))))),
  ].filter(Boolean);
}

function jobs(all) {
  if (!all.length) return [h("p", {}, "No job has run yet.")];
  return all.map(({ name, state, done, message, seconds_left: left }) => h("div", { class: "job" },
    h("p", {}, h("strong", {}, name), ` ${state}`, message ? `: ${message}` : "",
      state === "running" && left ? `, ${duration(left)} left` : ""),
    state === "running"
      ? h("progress", { "aria-label": `${name}: ${done === null ? "" : percent(done)}`, ...(done === null ? {} : { max: 1, value: done }) })
      : null));
}

function readers(all, own, giveBack) {
  if (!all.length) return [h("p", {}, "No reader holds a case.")];
  return [table({
    caption: "Cases held by readers; one that was passed over stays held, as a colleague may use the same name",
    columns: ["Reader", "Case", "Until", "", ""],
    rows: all.map(({ annotator, case: id, title, until, passed_over: passed }) => [
      annotator, link({ id, title }), when(until), passed ? "passed over" : "",
      annotator === own
        ? h("button", { type: "button", onclick: () => giveBack(id) }, `Give ${title} back`) : "",
    ]),
  })];
}
