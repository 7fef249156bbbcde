// What the reader has chosen. Views subscribe; changes of one frame are told together.
const state = {
  kind: "gradients",
  query: "",
  module: null,
  format: report.formats[0],
  shift: 0,
  level: 0,
  toggled: new Set(),
  sites: [],
  shown: [],
  rows: [],
  tree: null,
  sort: { key: "risk", descending: true },
};

const listeners = [];
const subscribe = (listener) => listeners.push(listener);
const changed = new Set();
const SELECTING = ["kind", "query", "module"];

function change(values) {
  Object.assign(state, values);
  if (!changed.size) requestAnimationFrame(publish);
  Object.keys(values).forEach((key) => changed.add(key));
}

function publish() {
  const keys = new Set(changed);
  const any = (...names) => names.some((name) => keys.has(name));
  changed.clear();
  if (any(...SELECTING)) {
    state.shown = state.sites.filter(isShown);
    state.tree = null;
  }
  if (any(...SELECTING, "level", "toggled")) state.rows = rowsInSight();
  if (any(...SELECTING, "level", "toggled", "format", "shift")) assess();
  listeners.forEach((listener) => listener(keys));
}

function rowsInSight() {
  if (!state.level) return state.shown;
  state.tree ??= moduleTree(state.shown);
  return state.shown.length ? leafRows(state.tree) : [];
}

// Largest magnitude after the loss scale; null where nothing finite was seen.
const largestOf = (site) => (isNumber(site.amax) ? site.amax * 2 ** shiftOf(site) : null);
const shiftOf = (site) => (isGradient(site) ? state.shift : 0);

// The recorded shares are exact in L1 mass; others follow from the histogram, to within a third.
function assessRow(site) {
  site.shares = sharesOf(site, state.format, shiftOf(site));
  const recorded = state.format.name === "fp16" && shiftOf(site) === 0;
  if (!recorded || !isNumber(site.l1_flushed_fp16)) return;
  site.shares.l1 = site.l1_flushed_fp16;
  site.shares.lostMass = site.l1_flushed_fp16 * site.shares.mass;
}

function assess() {
  state.shown.forEach(assessRow);
  if (state.level && state.tree) foldedRows(state.tree).forEach(assessRow);
}

function foldedRows(node) {
  return Array.from(node.children.values()).filter((child) => child.sites.length > 1)
    .flatMap((child) => [rowOf(child), ...(unfolded(child) ? foldedRows(child) : [])]);
}

function isShown(site) {
  const ofKind = state.kind === "gradients" ? isGradient(site) : site.kind === state.kind;
  if (!ofKind || !(state.module?.holds(site) ?? true)) return false;
  return !state.query
    || `${site.name} ${site.module_type}`.toLowerCase().includes(state.query.toLowerCase());
}

// What the list of modules offers: parts of the model that hold several sites, and module types.
function moduleChoices(sites) {
  const parts = branchesOf(moduleTree(sites)).filter(isBranch);
  const types = new Map();
  for (const { module_type: type } of sites) types.set(type, (types.get(type) ?? 0) + 1);
  return [
    ...parts.map((part) => ({ group: "Part of the model", label: part.path, size: part.sites.length,
      holds: (site) => `${site.name}.`.startsWith(`${part.path}.`) })),
    ...Array.from(types, ([type, size]) => ({ group: "Type of module", label: type, size,
      holds: (site) => site.module_type === type })),
  ];
}
