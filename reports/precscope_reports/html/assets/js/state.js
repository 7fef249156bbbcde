// What the reader has chosen. Views subscribe; changes of one frame are told together.
const state = {
  kind: "gradients",
  query: "",
  format: report.formats[0],
  shift: 0,
  sites: [],
  shown: [],
  sort: { key: "risk", descending: true },
};

const listeners = [];
const subscribe = (listener) => listeners.push(listener);
const changed = new Set();

function change(values) {
  Object.assign(state, values);
  if (!changed.size) requestAnimationFrame(publish);
  Object.keys(values).forEach((key) => changed.add(key));
}

function publish() {
  const keys = new Set(changed);
  changed.clear();
  if (keys.has("kind") || keys.has("query")) state.shown = state.sites.filter(isShown);
  if (["kind", "query", "format", "shift"].some((key) => keys.has(key))) assess();
  listeners.forEach((listener) => listener(keys));
}

// Largest magnitude after the loss scale; null where nothing finite was seen.
const largestOf = (site) => (isNumber(site.amax) ? site.amax * 2 ** shiftOf(site) : null);
const shiftOf = (site) => (isGradient(site) ? state.shift : 0);

// The recorded shares are exact in L1 mass; others follow from the histogram, to within a third.
function assess() {
  const recorded = state.format.name === "fp16";
  for (const site of state.shown) {
    site.shares = sharesOf(site, state.format, shiftOf(site));
    if (recorded && shiftOf(site) === 0 && isNumber(site.l1_flushed_fp16)) {
      site.shares.l1 = site.l1_flushed_fp16;
    }
  }
}

function isShown(site) {
  const ofKind = state.kind === "gradients" ? isGradient(site) : site.kind === state.kind;
  if (!ofKind || !state.query) return ofKind;
  return `${site.name} ${site.module_type}`.toLowerCase().includes(state.query.toLowerCase());
}
