// Sites folded into the modules that hold them. Histograms add exactly, so a folded module is a
// row like any other: the sum of its sites, of those stored in half precision where there are any.
const MOST_LEVELS = 24;

// A path is a name from the user's program: in the page a number stands for it.
const foldNumbers = new Map();

function newNode(path) {
  if (!foldNumbers.has(path)) foldNumbers.set(path, foldNumbers.size);
  return { path, number: foldNumbers.get(path), depth: 0, sites: [], own: [], children: new Map() };
}

function moduleTree(sites) {
  const top = newNode("");
  for (const site of sites) {
    let at = top;
    top.sites.push(site);
    const parts = site.name.split(".");
    const kept = parts.length > MOST_LEVELS
      ? [...parts.slice(0, MOST_LEVELS), parts.slice(MOST_LEVELS).join(".")] : parts;
    kept.forEach((part, index) => {
      if (!at.children.has(part)) {
        at.children.set(part, newNode(kept.slice(0, index + 1).join(".")));
      }
      at = at.children.get(part);
      at.sites.push(site);
    });
    at.own.push(site);
  }
  return settled(top, 0);
}

// A module that holds nothing but one other is not a level of its own.
function settled(node, depth) {
  let at = node;
  while (!at.own.length && at.children.size === 1) [at] = at.children.values();
  at.depth = depth;
  at.children = new Map(Array.from(at.children, ([key, child]) => [key, settled(child, depth + 1)]));
  return at;
}

function unfolded(node) {
  return node.depth === 0 || (node.depth < state.level) !== state.toggled.has(node.number);
}

function branchesOf(node) {
  return [...node.own, ...Array.from(node.children.values(), (child) =>
    (child.sites.length === 1 ? child.sites[0] : child))];
}

const isBranch = (item) => item.children instanceof Map;
const rowOf = (item) => (isBranch(item) ? (item.row ??= foldedRow(item)) : item);

// Rows of the table in the order of `compare`; an unfolded module stays above what it holds.
function treeRows(node, compare) {
  const items = branchesOf(node).map((item) => ({ item, row: rowOf(item) }));
  items.sort((a, b) => compare(a.row, b.row));
  return items.flatMap(({ item, row }) => {
    const line = { row, depth: node.depth, open: isBranch(item) && unfolded(item) };
    return line.open ? [line, ...treeRows(item, compare)] : [line];
  });
}

// Rows of the map: what is folded and every site in sight, in the order in which they ran.
function leafRows(node) {
  const rows = branchesOf(node).flatMap((item) =>
    (isBranch(item) && unfolded(item) ? leafRows(item) : [rowOf(item)]));
  return rows.sort((a, b) => a.index - b.index);
}

function foldedRow(node) {
  const stored = node.sites.filter((site) => site.at_risk);
  const sites = stored.length ? stored : node.sites;
  const sum = (key) => sites.reduce((total, site) => total + site[key], 0);
  const amaxes = sites.map((site) => site.amax).filter(isNumber);
  const merged = mergedCounts(sites);
  const row = {
    ...merged, number: node.number, name: node.path, sites: node.sites, folded: sites.length,
    kind: node.sites[0].kind, index: node.sites[0].index,
    at_risk: stored.length > 0, amax: amaxes.length ? amaxes.reduce((a, b) => Math.max(a, b)) : null,
    zeros: sum("zeros"), infinities: sum("infinities"), nans: sum("nans"),
  };
  const values = merged.counts.reduce((a, b) => a + b, 0) + row.zeros + row.infinities + row.nans;
  row.zero_fraction = values ? row.zeros / values : null;
  row.module_type = `${count(node.sites.length)} sites`;
  return row;
}

function mergedCounts(sites) {
  const filled = sites.filter((site) => site.counts.length);
  if (!filled.length) return { first_exponent: 0, counts: [], powers: [] };
  const first = Math.min(...filled.map((site) => site.first_exponent));
  const last = Math.max(...filled.map((site) => site.first_exponent + site.counts.length));
  const [counts, powers] = [new Array(last - first).fill(0), new Array(last - first).fill(0)];
  for (const site of filled) {
    const offset = site.first_exponent - first;
    site.counts.forEach((value, at) => { counts[offset + at] += value; });
    site.powers.forEach((value, at) => { powers[offset + at] += value; });
  }
  return { first_exponent: first, counts, powers };
}

function toggleModule(number) {
  const toggled = new Set(state.toggled);
  if (!toggled.delete(number)) toggled.add(number);
  change({ toggled });
}
