// The login of MONAI Label, if it is switched on.

import { h } from "mdal/dom.js";

// Ask for name and password until the server accepts them; resolves to the token.
export function logIn() {
  return new Promise(resolve => {
    const problem = h("p", { role: "alert" });
    const field = (name, label, type, autocomplete) =>
      h("label", {}, label, h("input", { name, type, autocomplete, required: true }));
    const form = h("form", { method: "dialog" },
      h("h2", {}, "Log in"),
      field("username", "User", "text", "username"),
      field("password", "Password", "password", "current-password"),
      problem,
      h("button", { type: "submit" }, "Log in"));
    const dialog = h("dialog", { "aria-label": "Log in", oncancel: event => event.preventDefault() }, form);
    form.addEventListener("submit", async event => {
      event.preventDefault();
      problem.textContent = "";
      const answer = await fetch("/auth/token", { method: "POST", body: new URLSearchParams(new FormData(form)) })
        .catch(() => null);
      const { access_token: token, detail } = await answer?.json().catch(() => null) ?? {};
      if (!token) {
        problem.textContent = detail ?? "The server does not answer.";
        return;
      }
      dialog.close();
      dialog.remove();
      resolve(token);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
