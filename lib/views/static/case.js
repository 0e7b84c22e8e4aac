// One case: the reason for its rank, its images side by side, the pool check, the history.

import { h, table } from "mdal/dom.js";
import { count, signed, when } from "mdal/format.js";
import { opening } from "mdal/opening.js";
import { placeholder, viewer } from "mdal/viewer.js";

const STATUS = {
  ok: ["good", "The pool check found nothing."],
  warned: ["doubt", "The pool check warns about this case; it is offered nevertheless."],
  quarantined: ["bad", "The pool check holds this case back: it is not offered until someone has checked and released it."],
  released: ["doubt", "The pool check held this case back; someone checked and released it."],
  unchecked: ["quiet", "The pool check has not looked at this case yet."],
};

export async function view(source, id) {
  const about = await source.json(`cases/${encodeURIComponent(id)}`);
  const images = source.live ? viewer(source, about) : placeholder(source, about);
  return {
    title: `Case ${about.id}`,
    node: [
      ...why(about),
      source.live && h("section", { "aria-label": "Open this case" }, opening(about)),
      images.node,
      pairs(about),
      check(about),
      source.live && about.model && contributions(source, about),
      history(about),
    ].filter(Boolean),
    close: () => images.close(),
  };
}

function why(about) {
  const warnings = [...about.findings.map(found => found.sentence), ...(about.warnings ?? [])];
  const facts = [
    about.difference !== null && `Modality difference ${signed(about.difference)}, standardised over the pool.`,
    about.rank !== null && (about.chosen ? "Within the budget of the plan." : "Beyond the budget of the plan."),
    about.cluster !== null && `In group ${about.cluster} of similar cases.`,
    about.labels.length > 0 && `Labelled: ${about.labels.map(label => label.tag).join(", ")}.`,
  ].filter(Boolean);
  return [
    h("p", { class: "reason" }, about.reason),
    h("p", { class: "quiet" }, facts.join(" "), nearest(about)),
    ...warnings.map(sentence => h("p", { class: about.status === "quarantined" ? "problem" : "warning" }, sentence)),
  ];
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

function history(about) {
  const rows = about.history.map(event => [when(event.at), describe(event)]);
  return h("section", {}, h("h2", {}, "History"), rows.length === 0
    ? h("p", { class: "quiet" }, "No events yet.")
    : table({ caption: "Newest first", columns: ["Time", "Event"], rows }));
}

function describe({ kind, who, rank, strategy, plan, cases }) {
  const by = who ? ` by ${who}` : "";
  const place = rank ? `, rank ${rank} in the order ${strategy}` : "";
  switch (kind) {
    case "planned": return `Plan ${plan} was made for ${count(cases, "case")}`;
    case "offered": return `Offered to ${who ?? "a reader"}${place}`;
    case "labelled": return `Labelled${by}`;
    case "set aside": return `Set aside${by}`;
    case "expired": return `Lease${who ? ` of ${who}` : ""} expired: offered to others again`;
    default: return `${kind}${by}`;
  }
}
