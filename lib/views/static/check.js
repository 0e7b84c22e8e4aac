// The pool check: every case with findings, and pictures of images that do not lie on each other.

import { h } from "mdal/dom.js";
import { count } from "mdal/format.js";

export const label = "Check";
const LISTED = 200;  // cases listed before the button that shows all
const RELEASE = "A case in quarantine is not offered, not segmented and not used for training. If you have checked the "
  + "case and it is good, release it with the setting beside it. For python main.py serve, use the setting as shown; "
  + "for monailabel start_server, put a space in place of the equals sign.";

export async function view(source) {
  const check = await source.json("check");
  const pictures = new Pictures(source);
  const list = h("div", {});
  const node = [
    ...check.sentences.map(sentence => h("p", { class: "warning" }, sentence)),
    check.state === "done" ? summary(check.counts, check.cases) : null,
    ...check.labels.map(sentence => h("p", { class: "quiet" }, sentence)),
    skipped(check.skipped),
  ];
  if (check.cases.length) {
    node.push(h("h2", {}, "Cases with findings, worst first"), h("p", {}, RELEASE), filter(check, show), list);
  }
  show("");

  function show(kind, all = false) {
    const cases = check.cases.filter(({ kinds }) => !kind || kinds.includes(kind));
    const shown = all ? cases : cases.slice(0, LISTED);
    list.replaceChildren(
      h("p", { role: "status", class: "quiet" }, count(cases.length, "case")),
      ...shown.map(doubted => row(doubted, pictures)),
      ...(shown.length < cases.length
        ? [h("button", { type: "button", onclick: () => show(kind, true) }, `Show all ${cases.length}`)] : []));
  }

  return { title: "The pool check", node: node.filter(Boolean), close: () => pictures.close() };
}

function summary({ cases, ok, warned, quarantined }, rows) {
  const released = rows.filter(row => row.released).length;
  const note = released ? ` (${released} of them released by a setting, and served)` : "";
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
    h("span", { "aria-hidden": "true" }, sign), ` ${status}${released ? ", released by a setting" : ""}`);
}

function row(doubted, pictures) {
  const { case: id, title, findings, pictured, release } = doubted;
  return h("article", { class: "card doubted" },
    h("div", {},
      h("h3", {}, h("a", { href: `#case/${encodeURIComponent(id)}` }, title), " ", state(doubted)),
      h("ul", {}, findings.map(({ severity, sentence }) => h("li", { class: severity }, sentence))),
      release ? h("label", { class: "release" }, `Setting that releases ${id}`,
        h("input", { readonly: true, value: release, onfocus: event => event.target.select() })) : null),
    pictured.length ? pictures.of(id, pictured) : null);
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
