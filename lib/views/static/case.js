// One case: the reason for its rank, its images side by side, the pool check, the history.

import { h, table } from "mdal/dom.js";
import { count, duration, signed, when } from "mdal/format.js";
import { NAME } from "mdal/today.js";
import { opening } from "mdal/opening.js";
import { placeholder, viewer } from "mdal/viewer.js";

const STATUS = {
  ok: ["good", "The pool check found nothing."],
  warned: ["doubt", "The pool check warns about this case; it is offered nevertheless."],
  quarantined: ["bad", "The pool check holds this case back: it is not offered until someone has checked and released it under Check."],
  released: ["doubt", "The pool check held this case back; someone checked and released it."],
  unchecked: ["quiet", "The pool check has not looked at this case yet."],
};

export async function view(source, id) {
  const about = await source.json(`cases/${encodeURIComponent(id)}`);
  const images = source.live ? viewer(source, about) : placeholder(source, about);
  const events = history(about);
  return {
    title: `Case ${about.title}`,
    node: [
      ...why(about),
      source.live && about.study && h("section", { "aria-label": "Open this case" }, opening(about)),
      images.node,
      facts(about),
      source.live && !about.study && h("section", { "aria-label": "Open this case" }, opening(about)),
      pairs(about),
      check(about),
      source.live && about.model && contributions(source, about),
      versions(source, about, changed => events.replaceChildren(...history(changed).childNodes)),
      events,
    ].filter(Boolean),
    close: () => images.close(),
  };
}

function why(about) {
  const warnings = [...about.findings.map(found => found.sentence), ...(about.warnings ?? [])];
  return [
    h("p", { class: "reason" }, about.reason),
    ...warnings.map(sentence => h("p", { class: about.status === "quarantined" ? "problem" : "warning" }, sentence)),
  ];
}

function facts(about) {
  const all = [
    about.difference !== null && `Modality difference ${signed(about.difference)}, standardised over the pool.`,
    about.rank !== null && (about.chosen ? "Within the budget of the plan." : "Beyond the budget of the plan."),
    about.cluster !== null && `In group ${about.cluster} of similar cases.`,
    about.labels.length > 0 && `Labelled: ${about.labels.map(label => label.tag).join(", ")}.`,
  ].filter(Boolean);
  return h("p", { class: "quiet" }, all.join(" "), nearest(about));
}

function nearest({ nearest_labelled: found }) {
  if (!found) return null;
  return [" Nearest labelled case: ", h("a", { href: `#case/${encodeURIComponent(found.id)}` }, found.id),
    ` (distance ${found.distance.toFixed(2)}).`];
}

function pairs(about) {
  if (about.pairs.length === 0) return null;
  return h("section", {}, h("h2", {}, "How much the modalities differ"), table({
    caption: "Each pair: the difference of its most different places, standardised over the pool; and −PMI over the body",
    columns: ["Pair", "Difference", "−PMI, nats"],
    right: ["Difference", "−PMI, nats"],
    rows: about.pairs.map(pair => [pair.pair, signed(pair.difference), signed(pair.difference_nats, 3)]),
  }));
}

function check(about) {
  const [colour, sentence] = STATUS[about.status];
  const voxels = ({ shape, voxel_mm: size, problem }) =>
    problem ?? (shape ? `${shape.join(" × ")}, ${size.map(mm => mm.toFixed(2)).join(" × ")} mm` : "not fetched yet");
  const sentences = ({ name }) =>
    about.findings.filter(found => found.modalities.includes(name)).map(found => found.sentence).join(" ");
  return h("section", {}, h("h2", {}, "Check"), h("p", { class: colour }, sentence),
    table({
      caption: "Images",
      columns: ["Modality", "Voxels", "Findings"],
      rows: about.modalities.map(modality => [modality.name, voxels(modality), sentences(modality) || "none"]),
    }));
}

// An explanation takes seconds to minutes, so it is computed on request.
function contributions(source, about) {
  const place = h("div", {});
  const make = h("button", { type: "button", onclick: async () => {
    make.disabled = true;
    place.replaceChildren(h("p", { role: "status" }, "Explaining …"));
    try {
      const path = `/mdal/explanation/${encodeURIComponent(about.id)}`;
      const numbers = JSON.parse(new TextDecoder().decode(await source.bytes(path)));
      const montage = URL.createObjectURL(new Blob([await source.bytes(`${path}.png`)], { type: "image/png" }));
      const image = h("img", { src: montage, alt: numbers.sentence, onload: () => URL.revokeObjectURL(montage) });
      place.replaceChildren(h("p", {}, numbers.sentence), image);
    } catch (error) {
      place.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
      make.disabled = false;
    }
  } }, "Show the contributions");
  return h("section", {}, h("h2", {}, "Contribution of each modality to the model's segmentation"), make, place);
}

const KINDS = {
  submitted: "submitted", model: "stored by the model", pacs: "from the PACS", "taken in": "taken in from a file",
  noted: "notes changed", restored: "made current again", removed: "removed",
};

// Every version of the case's labels, newest first; an earlier one can be made current again.
function versions(source, about, tell) {
  const node = h("section", { "aria-label": "Versions of the label" });
  const choose = async (tag, version) => {
    try {
      const reader = localStorage.getItem(NAME) ?? "";
      const changed = await source.send(
        `cases/${encodeURIComponent(about.id)}/labels/${tag}/current`, { version, reader });
      show(changed);
      tell(changed);
    } catch (error) {
      node.append(h("p", { class: "problem", role: "alert" }, error.message));
    }
  };
  const show = ({ versions: all }) => node.replaceChildren(h("h2", {}, "Versions of the label"), table({
    caption: "Newest first; no version is ever lost",
    columns: ["Version", "Label", "Reader", "When", "How", "Began from", "After the offer", ""],
    rows: all.map(version => [
      `${version.number}`, version.tag, version.reader || "not known", version.written ? when(version.written) : "",
      `${KINDS[version.kind]}${version.of ? `, as version ${version.of}` : ""}`,
      version.model_version ? `model version ${version.model_version}` : "",
      version.seconds_since_offer === undefined ? "" : duration(version.seconds_since_offer),
      version.current ? h("strong", {}, "current") : source.live && version.is_label
        ? h("button", { type: "button", onclick: () => choose(version.tag, version.number) },
          `Make version ${version.number} current`) : "",
    ]),
  }));
  if (!about.versions.length) return null;
  show(about);
  return node;
}

function history(about) {
  const rows = about.history.map(event => [when(event.at), describe(event)]);
  return h("section", {}, h("h2", {}, "History"), rows.length === 0
    ? h("p", { class: "quiet" }, "No events yet.")
    : table({ caption: "Newest first", columns: ["Time", "Event"], rows }));
}

function describe({ kind, who, rank, strategy, plan, cases, version, of }) {
  const by = who ? ` by ${who}` : "";
  const place = rank ? `, rank ${rank} in the order ${strategy}` : "";
  switch (kind) {
    case "planned": return `Plan ${plan} was made for ${count(cases, "case")}`;
    case "offered": return `Offered to ${who ?? "a reader"}${place}`;
    case "labelled": return `Labelled${by}${version ? `, version ${version}` : ""}`;
    case "restored": return `Version ${of} was made current again${by}, as version ${version}`;
    case "segmented": return `Pre-segmentation by model version ${version} shown${who ? ` to ${who}` : ""}`;
    case "superseded": return `Label${by ? ` of ${who}` : ""} superseded by version ${version}`;
    case "given back": return `Given back${by}: offered again`;
    case "set aside": return `Set aside${by}`;
    case "released": return `Released from quarantine${by}`;
    case "held back": return `Held back again${by}`;
    case "expired": return `Lease${who ? ` of ${who}` : ""} expired: offered to others again`;
    default: return `${kind}${by}`;
  }
}
