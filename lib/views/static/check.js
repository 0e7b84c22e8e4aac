// The pool check: every case with findings, and pictures of images that do not lie on each other.

import { h } from "mdal/dom.js";
import { count } from "mdal/format.js";
import { NAME } from "mdal/today.js";

export const label = "Check";
const LISTED = 200;  // cases listed before the button that shows all
const RELEASE = "A case in quarantine is not offered, not segmented and not used for training. If you have checked the "
  + "case and it is good, release it. If its files change, or the check finds another reason, it is held back again.";

export async function view(source) {
  let check = await source.json("check");
  const pictures = new Pictures(source);
  const about = h("div", {});
  const list = h("div", {});
  const message = h("p", { role: "status", tabindex: -1 });
  let shownKind = "";
  let shownAll = false;

  function tell() {
    about.replaceChildren(...[
      ...check.sentences.map(sentence => h("p", { class: "warning" }, sentence)),
      check.state === "done" ? summary(check.counts, check.cases) : null,
      ...check.labels.map(sentence => h("p", { class: "quiet" }, sentence)),
      skipped(check.skipped),
    ].filter(Boolean));
    show(shownKind, shownAll);
  }

  async function review(id, released) {
    for (const button of list.querySelectorAll("button")) button.disabled = true;
    try {
      check = await source.send("check/released", { case: id, released, reader: localStorage.getItem(NAME) ?? "" });
      message.textContent = released ? `${id} is released and served.` : `${id} is held back again.`;
      message.className = "";
    } catch (error) {
      message.textContent = error.message;
      message.className = "problem";
    }
    tell();
    message.focus();
  }

  tell();

  function show(kind, all = false) {
    [shownKind, shownAll] = [kind, all];
    const cases = check.cases.filter(({ kinds }) => !kind || kinds.includes(kind));
    const shown = all ? cases : cases.slice(0, LISTED);
    list.replaceChildren(
      h("p", { role: "status", class: "quiet" }, count(cases.length, "case")),
      ...shown.map(doubted => row(doubted, pictures, source.live ? review : null)),
      ...(shown.length < cases.length
        ? [h("button", { type: "button", onclick: () => show(kind, true) }, `Show all ${cases.length}`)] : []));
  }

  const cases = check.cases.length
    ? [h("h2", {}, "Cases with findings, worst first"), h("p", {}, RELEASE), message, filter(check, show), list] : [];
  return { title: "The pool check", node: [about, ...cases], close: () => pictures.close() };
}

function summary({ cases, ok, warned, quarantined }, rows) {
  const released = rows.filter(row => row.released).length;
  const note = released ? ` (${released} of them released and served)` : "";
  return h("p", { class: "headline" },
    `${count(cases, "case")}: ${ok} without findings, ${warned} warned and served, ${quarantined} quarantined${note}.`);
}

function skipped(reasons) {
  if (!reasons.length) return null;
  const total = reasons.reduce((sum, { count: some }) => sum + some, 0);
  return h("details", {},
    h("summary", {}, `${count(total, "file or folder", "files or folders")} left out of the pool`),
    h("ul", {}, reasons.map(({ reason, count: some }) => h("li", {}, `${some} \u00d7 ${reason}`))));
}

function filter({ kinds }, show) {
  const choice = h("select", { onchange: () => show(choice.value) }, h("option", { value: "" }, "all findings"),
    kinds.map(({ name, cases }) => h("option", { value: name }, `${name} (${cases})`)));
  return h("label", {}, "Show", choice);
}

const SIGNS = { quarantined: ["\u2717", "bad"], warned: ["!", "doubt"] };

function state({ status, released }) {
  const [sign, kind] = SIGNS[status];
  return h("span", { class: `light ${kind}` },
    h("span", { "aria-hidden": "true" }, sign), ` ${status}${released ? `, released ${released}` : ""}`);
}

function row(doubted, pictures, review) {
  const { case: id, title, findings, pictured } = doubted;
  return h("article", { class: "card doubted" },
    h("div", {},
      h("h3", {}, h("a", { href: `#case/${encodeURIComponent(id)}` }, title), " ", state(doubted)),
      h("ul", {}, findings.map(({ severity, sentence }) => h("li", { class: severity }, sentence))),
      decision(doubted, review)),
    pictured.length ? pictures.of(id, pictured) : null);
}

// What a person can decide about a case: a button on a server, the setting in a report.
function decision({ case: id, release, released, by_setting: bySetting }, review) {
  if (review && release) return h("button", { type: "button", onclick: () => review(id, true) }, `Release ${id}`);
  if (review && released && !bySetting) {
    return h("button", { type: "button", onclick: () => review(id, false) }, `Hold ${id} back again`);
  }
  return release && h("label", { class: "release" }, `Setting that releases ${id}`,
    h("input", { readonly: true, value: release, onfocus: event => event.target.select() }));
}

// Pictures are requested when they scroll into view: the server makes each from two whole volumes.
class Pictures {
  #source; #watch;
  #wanted = new Map();

  constructor(source) {
    this.#source = source;
    this.#watch = new IntersectionObserver(seen => seen.filter(({ isIntersecting }) => isIntersecting)
      .forEach(({ target }) => this.#load(target)), { rootMargin: "50%" });
  }

  of(id, [first, second]) {
    const frame = h("figure", { class: "board" }, h("p", { class: "quiet" }, "Making the picture \u2026"));
    this.#wanted.set(frame, { id, first, second });
    this.#watch.observe(frame);
    return frame;
  }

  close() {
    this.#watch.disconnect();
  }

  async #load(frame) {
    this.#watch.unobserve(frame);
    const { id, first, second } = this.#wanted.get(frame);
    const query = new URLSearchParams({ first, second });
    try {
      const address = await this.#source.picture(`cases/${encodeURIComponent(id)}/checkerboard.jpg?${query}`);
      frame.replaceChildren(
        h("img", { src: address, alt: `${first} and ${second} of ${id}, with the body's outlines` }),
        h("figcaption", {}, `${first} and ${second}, alone and as a checkerboard. Where they are aligned, edges `,
          "continue from tile to tile. If their fields of view do not overlap, there is no checkerboard."));
    } catch (error) {
      frame.replaceChildren(h("p", { class: "warning" }, error.message));
    }
  }
}
