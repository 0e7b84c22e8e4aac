// What to do now: the next case, how far the plan is, what runs, who is at what.

import { h, table } from "mdal/dom.js";
import { count, duration, percent, when } from "mdal/format.js";
import { opening } from "mdal/opening.js";

export const label = "Today";

const POLL_MS = 5000;
const NAME = "mdal-annotator";  // of the reader at this computer

export async function view(source) {
  const parts = Object.fromEntries(["warnings", "next", "counts", "jobs", "readers"].map(name => [name, h("div")]));
  const name = h("input", { value: localStorage.getItem(NAME) ?? "", maxlength: 160, autocomplete: "nickname" });
  const said = h("div", { "aria-live": "polite" });
  const picture = h("div");
  let drawn = "";
  let pictured = "";

  async function refresh() {
    const today = await source.json(`today?annotator=${encodeURIComponent(name.value)}`);
    const state = JSON.stringify([name.value, today]);
    if (state === drawn) return;  // nothing is redrawn under a reader's fingers
    drawn = state;
    parts.warnings.replaceChildren(...warnings(today));
    parts.next.replaceChildren(...next(today, source.live ? take : null, name.value));
    if (today.next && today.next.id !== pictured) {
      pictured = today.next.id;
      picture.replaceChildren(...await strip(source, today.next));
    }
    picture.hidden = !today.next;
    parts.counts.replaceChildren(...counts(today.counts));
    parts.jobs.replaceChildren(...jobs(today.jobs));
    parts.readers.replaceChildren(...readers(today.readers));
  }

  async function take(event) {
    event.target.disabled = true;
    try {
      const sample = await source.send("/activelearning/random", { client_id: name.value });
      said.replaceChildren(...taken(sample));
      said.querySelector("a, button")?.focus();
    } catch (error) {
      said.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
    }
    drawn = "";
    await refresh();
  }

  name.addEventListener("change", () => {
    localStorage.setItem(NAME, name.value);
    refresh();
  });
  await refresh();
  const timer = source.live ? setInterval(() => refresh().catch(() => { }), POLL_MS) : null;
  return {
    title: "Today",
    close: () => clearInterval(timer),
    node: [
      parts.warnings,
      h("div", { class: "cards" },
        h("section", { class: "card" }, h("h2", {}, "The next case"),
          source.live ? h("label", { class: "above" }, "Your name", name) : null,
          parts.next, said, picture),
        h("section", { class: "card" }, h("h2", {}, "The plan so far"), parts.counts),
        h("section", { class: "card" }, h("h2", {}, "What runs"), parts.jobs),
        h("section", { class: "card" }, h("h2", {}, "Who is at what"), parts.readers)),
    ],
  };
}

function warnings({ empty, warnings: sentences }) {
  const all = [...(empty ? [empty] : []), ...sentences];
  return all.map(sentence => h("p", { class: sentence === empty ? "problem" : "warning" }, sentence));
}

function next({ next: found, counts: { labelled, left, budget, cases } }, take, reader) {
  if (!found) {
    const done = labelled < cases && labelled >= budget ? `The budget of ${count(budget, "case")} is spent.`
      : left ? "The budget is spent or in other readers' hands." : "No case is left to be labelled.";
    return [h("p", {}, done)];
  }
  const { yours_until: until, study, reason, warnings: sentences } = found;
  return [
    h("p", {}, until ? `In your hands until ${when(until)}: ` : null, link(found.id), `. ${reason}`),
    sentences.map(sentence => h("p", { class: "warning" }, sentence)),
    until || !study ? opening(found) : [],
    until || study ? [] : [h("p", {}, "In 3D Slicer, Next Sample under your name gives this case.")],
    take ? button(found, take, reader) : [],
  ].flat();
}

function button({ yours_until: until, study }, take, reader) {
  if (!reader) return [h("p", { class: "quiet" }, "Enter your name to keep it from other readers.")];
  const text = until ? "Set it aside and take the next one" : study ? "Take this case" : "Keep it for me";
  return [h("p", {}, h("button", { class: until ? null : "main", onclick: take }, text))];
}

function taken({ id }) {
  return [h("p", {}, id ? `${id} is yours.` : "No case is left for you.")];
}

async function strip(source, { id, modalities }) {
  try {
    const address = await source.picture(`cases/${encodeURIComponent(id)}/strip.jpg`);
    return [h("figure", { class: "strip" }, h("img", { src: address, alt: `${id} in ${modalities.join(", ")}` }),
      h("figcaption", {}, modalities.map(name => h("span", {}, name))))];
  } catch (error) {
    return [h("p", { class: "quiet" }, error.message)];
  }
}

function link(id) {
  return h("a", { href: `#case/${encodeURIComponent(id)}` }, h("strong", {}, id));
}

function counts({ cases, labelled, leased, set_aside: aside, left, quarantined, budget }) {
  const goal = Math.min(budget, cases);
  return [
    h("p", {}, labelled > goal ? `${labelled} of ${cases} labelled, more than the budget of ${budget}`
      : [`${labelled} of ${count(goal, "case")} labelled`, goal < cases && ` (the budget; ${cases} in all)`]),
    h("progress", { max: Math.max(1, goal), value: Math.min(labelled, goal), "aria-label": "Labelled cases" }),
    h("dl", { class: "figures" }, [["Labelled", labelled], ["In readers' hands", leased], ["Set aside by you", aside],
      ["Left", left], ["Held back by the check", quarantined]]
      .map(([what, number]) => h("div", {}, h("dt", {}, what), h("dd", {}, String(number))))),
  ];
}

function jobs(all) {
  if (!all.length) return [h("p", {}, "Nothing was started yet.")];
  return all.map(({ name, state, done, message, seconds_left: left }) => h("div", { class: "job" },
    h("p", {}, h("strong", {}, name), ` ${state}`, message ? `: ${message}` : "",
      state === "running" && left ? `, ${duration(left)} left` : ""),
    state === "running"
      ? h("progress", { "aria-label": `${name}: ${done === null ? "" : percent(done)}`, ...(done === null ? {} : { max: 1, value: done }) })
      : null));
}

function readers(all) {
  if (!all.length) return [h("p", {}, "No case is in a reader's hands.")];
  return [table({
    caption: "Cases in readers' hands",
    columns: ["Reader", "Case", "Until"],
    rows: all.map(({ annotator, case: id, until }) => [annotator, link(id), when(until)]),
  })];
}
