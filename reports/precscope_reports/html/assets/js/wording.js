// How numbers are worded; the same rules as phrases.py.
const DASH = "—";

const KIND_WORDS = {
  activation: "activation",
  activation_gradient: "activation gradient",
  weight: "weight",
  weight_gradient: "weight gradient",
};

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;" };

// Control characters and marks that turn the direction of text are shown, not obeyed.
const UNPRINTABLE =
  /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufffe\uffff]|\p{Surrogate}/gu;

// For HTML and for plotly, which reads a subset of HTML in every text it is given.
function escapeHtml(text) {
  return String(text).replace(UNPRINTABLE, "\ufffd").replace(/[&<>"']/g, (mark) => ENTITIES[mark]);
}

// A long name breaks at its dots.
const nameHtml = (name) =>
  `<bdi>${escapeHtml(name.trim() ? name : "(no name)").replaceAll(".", ".<wbr>")}</bdi>`;

const superscript = (exponent) => `2<sup>${String(exponent).replace("-", "−")}</sup>`;

function powerOfTwo(exponent) {
  if (!isNumber(exponent)) return DASH;
  const rounded = Math.round(exponent * 10) / 10;
  return superscript(Number.isInteger(rounded) ? rounded : rounded.toFixed(1));
}

function magnitude(value) {
  if (!isNumber(value)) return DASH;
  return value === 0 ? "0" : powerOfTwo(Math.log2(Math.abs(value)));
}

function share(fraction) {
  if (!isNumber(fraction)) return DASH;
  if (fraction === 0) return "0";
  if (fraction === 1) return "100 %";
  const percent = 100 * fraction;
  if (percent > 0 && percent < 0.01) return "<0.01 %";
  if (percent >= 99.95 && percent < 100) return ">99.9 %";
  return `${percent.toFixed(Math.abs(percent) < 9.995 ? 2 : 1)} %`;
}

const count = (value) => (isNumber(value) ? value.toLocaleString("en-US") : DASH);

// The tail of a qualified name says more than its head.
function shortened(name, length) {
  const characters = Array.from(name);
  return characters.length <= length ? name : `…${characters.slice(1 - length).join("").replace(/^\.+/, "")}`;
}
