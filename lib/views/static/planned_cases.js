// The cases of a plan, by their place in its order (from 0), and their current states.

import { signed, when } from "mdal/format.js";

export class PlannedCases {
  #places;
  #labelled = new Set();
  #leased = {};

  constructor(columns) {
    this.columns = columns;
    this.#places = new Map(columns.id.map((id, place) => [id, place]));
  }

  get count() { return this.columns.id.length; }

  take(states) {
    this.#labelled = new Set(states.labelled);
    this.#leased = states.leased;
  }

  id(place) { return this.columns.id[place]; }
  title(place) { return this.columns.titles[this.id(place)] ?? this.id(place); }
  address(place) { return `#case/${encodeURIComponent(this.id(place))}`; }
  difference(place) { return this.columns.difference[place]; }
  isMapped(place) { return this.columns.x[place] !== null; }
  isChosen(place) { return this.columns.budget !== "" && place < this.columns.chosen; }
  isLabelled(place) { return this.#labelled.has(this.id(place)); }
  isLeased(place) { return this.id(place) in this.#leased; }
  lacks(place, modality) { return (this.columns.lacking[this.id(place)] ?? []).includes(modality); }

  // Standardised difference of each pair of modalities that the case has.
  pairs(place) {
    const all = this.columns.pairs.map(name => [name, this.columns.by_pair[name][place]]);
    return all.filter(([, value]) => value !== null);
  }

  mostDifferentPair(place) {
    return this.pairs(place).reduce((most, pair) => (most && most[1] >= pair[1] ? most : pair), null)?.[0] ?? "";
  }

  rank(place) {
    const chosen = this.isChosen(place) ? ", within the budget" : "";
    return `${place + 1} of ${this.count}${this.columns.random ? " in random order" : " in the order"}${chosen}`;
  }

  // The modality difference of a case compared with the pool.
  comparison(place) {
    const percentile = this.columns.percentile[place];
    if (percentile === null) return "not known";
    if (percentile === 100) return "differs more than all others";
    if (percentile === 0) return "differs less than all others";
    return `differs more than ${Math.min(99, Math.max(1, Math.round(percentile)))} % of the pool`;
  }

  words(place) {
    const difference = this.difference(place);
    if (difference === null) return "the modality difference is not known";
    return `MD ${signed(difference)}: ${this.comparison(place)}`;
  }

  state(place) {
    if (this.isLabelled(place)) return "labelled";
    const lease = this.#leased[this.id(place)];
    return lease ? `held by ${lease.who || "a reader"} until ${when(lease.until)}` : "not labelled";
  }

  // Places of the first cases whose title or id contains a text; an exact id comes first.
  find(text, most) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return [];
    const exact = this.#places.get(text.trim());
    const found = exact === undefined ? [] : [exact];
    for (let place = 0; place < this.count && found.length < most; place++) {
      const names = `${this.title(place)} ${this.id(place)}`.toLowerCase();
      if (place !== exact && names.includes(wanted)) found.push(place);
    }
    return found;
  }
}
