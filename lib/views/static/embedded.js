// The data source of a report, which carries all documents and pictures with it.

import { Refused } from "mdal/source.js";

export class Embedded {
  live = false;
  #documents;
  #pictures;

  constructor() {
    ({ documents: this.#documents, pictures: this.#pictures } = JSON.parse(document.getElementById("data").textContent));
  }

  async json(path) {
    return this.#found(this.#documents, plain(path).split("?")[0]);
  }

  async picture(path) {
    const name = plain(path);
    if (this.#documents[name]) throw new Refused(409, this.#documents[name].detail);
    return this.#found(this.#pictures, name);
  }

  #found(kept, path) {
    if (!(path in kept)) throw new Refused(404, "The report does not include this. Open the page on the server.");
    return kept[path];
  }
}

// A path without the encoding of addresses.
function plain(path) {
  return decodeURIComponent(path.replaceAll("+", " "));
}
