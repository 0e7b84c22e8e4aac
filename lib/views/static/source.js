// The data source of the page on a server; a report uses `Embedded` instead.

const TOKEN = "mdal-token";  // key of the login token, which is gone when the tab closes

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export class Server {
  live = true;
  askForLogin = null;  // async () => {token}; set by the application
  #pictures = new Map();  // path -> promise of an object URL
  #login = null;

  // A JSON document under api/.
  async json(path) {
    return (await this.#fetch(`api/${path}`)).json();
  }

  // Address of a picture under api/, for <img src>; kept, as the same picture is shown repeatedly.
  async picture(path) {
    if (!this.#pictures.has(path)) {
      const made = this.#fetch(`api/${path}`).then(answer => answer.blob()).then(blob => URL.createObjectURL(blob));
      made.catch(() => this.#pictures.delete(path));
      this.#pictures.set(path, made);
    }
    return this.#pictures.get(path);
  }

  // A file as an ArrayBuffer; `path` is under api/, or from the server's root if it starts with a slash.
  async bytes(path) {
    return (await this.#fetch(path.startsWith("/") ? path : `api/${path}`)).arrayBuffer();
  }

  // Post JSON and return the JSON answer; `path` as for `bytes`.
  async send(path, body) {
    const address = path.startsWith("/") ? path : `api/${path}`;
    const headers = { "Content-Type": "application/json" };
    return (await this.#fetch(address, { method: "POST", headers, body: JSON.stringify(body) })).json();
  }

  async #fetch(address, options = {}) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    let answer;
    try {
      answer = await fetch(address, { ...options, headers });
    } catch {
      throw new Refused(0, "The server does not answer. Is it running?");
    }
    if (answer.status === 401 && this.askForLogin) {
      this.#login ??= this.askForLogin().finally(() => { this.#login = null; });
      sessionStorage.setItem(TOKEN, await this.#login);
      return this.#fetch(address, options);
    }
    if (!answer.ok) throw new Refused(answer.status, await sentence(answer));
    return answer;
  }
}

async function sentence(answer) {
  try {
    const { detail } = await answer.json();
    if (typeof detail === "string") return detail;
  } catch { /* no JSON: the status says it */ }
  return `The server answered ${answer.status}.`;
}
