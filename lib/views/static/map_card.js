// A card with the facts of a case beside its dot: the text at once, the picture when it is loaded.

import { h } from "mdal/dom.js";
import { signed } from "mdal/format.js";

const REST_MS = 12;  // a pointer that moves across many dots requests none of their pictures

export class MapCard {
  #source; #cases; #wait = 0; #place = null;

  constructor(source, cases) {
    this.#source = source;
    this.#cases = cases;
    this.node = h("div", { class: "map-card", hidden: true });
  }

  close() { clearTimeout(this.#wait); }

  hide() {
    this.#place = null;
    this.node.hidden = true;
    clearTimeout(this.#wait);
  }

  show(place) {
    if (place !== this.#place) {
      this.#place = place;
      this.#fill(place);
    }
    this.node.hidden = false;
  }

  // Move the card beside a point of the box that holds it.
  move(x, y) {
    const { clientWidth: width, clientHeight: height } = this.node.parentElement;
    const gap = 18;
    const beside = (at, size, room) => {
      if (at + gap + size <= room) return at + gap;
      return at - gap - size >= 0 ? at - gap - size : Math.max(0, room - size);
    };
    this.node.style.left = `${beside(x, this.node.offsetWidth, width)}px`;
    const lowest = Math.max(0, height - this.node.offsetHeight);
    this.node.style.top = `${Math.min(Math.max(0, y - this.node.offsetHeight / 3), lowest)}px`;
  }

  #fill(place) {
    const cases = this.#cases;
    const strip = h("div", { class: "strip" }, h("p", { class: "quiet" }, "Loading the picture …"));
    const modalities = cases.columns.modalities;
    this.node.replaceChildren(...[
      h("strong", {}, cases.title(place)),
      h("p", {}, cases.words(place)),
      h("p", { class: "quiet" }, `${cases.rank(place)}; ${cases.state(place)}`),
      h("figure", {}, strip, h("figcaption", {}, modalities.map(name =>
        h("span", {}, cases.lacks(place, name) ? `${name}: missing` : name)))),
      pairTable(cases.pairs(place)),
    ].filter(Boolean));
    clearTimeout(this.#wait);
    this.#wait = setTimeout(() => this.#picture(place, strip), REST_MS);
  }

  async #picture(place, strip) {
    const id = this.#cases.id(place);
    const modalities = this.#cases.columns.modalities.join(", ");
    const picture = h("img", { alt: `${id} in ${modalities}, where the modalities differ most` });
    try {
      picture.src = await this.#source.picture(`cases/${encodeURIComponent(id)}/strip.jpg`);
      await picture.decode();
      strip.replaceChildren(picture);
    } catch (error) {
      const sentence = error.status ? error.message : "There is no picture of this case.";
      strip.replaceChildren(h("p", { class: "warning" }, sentence));
    }
  }
}

function pairTable(pairs) {
  if (!pairs.length) return null;
  return h("table", {}, h("caption", {}, "MD by pair"), h("tbody", {}, pairs.map(([name, value]) =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "number" }, signed(value))))));
}
