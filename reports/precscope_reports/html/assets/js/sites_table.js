// The table of sites: searched, sorted, and never drawn whole at once.
const FIRST_ROWS = 25;
const MORE_ROWS = 100;
const tableElement = document.getElementById("site-table");
let visibleRows = FIRST_ROWS;

const COLUMNS = [
  { key: "order", title: "Site", of: (site) => site.index, html: siteCell },
  { key: "risk", title: "Exponents, by risk", of: (site) => site, compare: byRisk, html: sparkline },
  ...[["flushed", "Flushed"], ["l1", "L1 lost"], ["subnormal", "Subnormal"], ["overflow", "Overflow"]]
    .map(([key, title]) => ({ key, title, numeric: true, of: (site) => site.shares[key],
      html: (site) => share(site.shares[key]) })),
  { key: "zeros", title: "Zeros", numeric: true, of: (site) => site.zero_fraction ?? -1,
    html: (site) => share(site.zero_fraction) },
  { key: "largest", title: "Largest", numeric: true, of: (site) => largestOf(site) ?? -1,
    html: (site) => magnitude(largestOf(site)) },
];

// Stored in the narrow format first, then overflow, lost L1 mass, flushed, subnormal.
function byRisk(a, b) {
  const keys = (site) => [Number(site.at_risk), site.shares.overflow, site.shares.l1,
    site.shares.flushed, site.shares.subnormal];
  const [first, second] = [keys(a), keys(b)];
  const at = first.findIndex((value, index) => value !== second[index]);
  return at < 0 ? 0 : first[at] - second[at];
}

function byValue(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

function chosenOrder() {
  const column = COLUMNS.find((candidate) => candidate.key === state.sort.key);
  const compare = column.compare ?? byValue;
  const sign = state.sort.descending ? -1 : 1;
  return (a, b) => sign * compare(column.of(a), column.of(b)) || a.index - b.index;
}

const sorted = () => [...state.shown].sort(chosenOrder());

// What the table lists: sites, or with a level chosen modules and what lies open below them.
function lines() {
  if (!state.level) return sorted().map((row) => ({ row, depth: 0, open: false }));
  return state.shown.length ? treeRows(state.tree, chosenOrder()) : [];
}

function siteCell(site) {
  const stays = site.at_risk ? "" : `, stays ${escapeHtml(site.autocast_dtype ?? site.dtype)}`;
  return `<button type="button" class="site-link name" data-site="${site.index}">` +
    `${nameHtml(site.name)}</button>${limitTag(site)}` +
    `<small class="under">${escapeHtml(site.module_type)}, ${KIND_WORDS[site.kind]}${stays}</small>`;
}

function moduleCell(row, open) {
  const inFp32 = row.at_risk ? row.sites.length - row.folded : 0;
  return `<button type="button" class="fold name" aria-expanded="${open}" ` +
    `data-fold="${row.number}">${nameHtml(row.name)}</button>${limitTag(row)}` +
    `<small class="under">${row.module_type} together${inFp32 ? `, ${count(inFp32)} more stay FP32` : ""}` +
    `${row.at_risk ? "" : ", all stay FP32"}</small>`;
}

// The ends of the safe window, and the sites that set them.
function limitsOf(row) {
  const { limiting_sites: sites, minimum_log2: low, maximum_log2: high } = report.loss_scale;
  const holds = (name) => name && (row.sites ?? [row]).some((site) => isGradient(site)
    && (site.name === name || `${site.name} (${KIND_WORDS[site.kind]})` === name));
  return [isNumber(low) && holds(sites.minimum) ? `needs ${powerOfTwo(low)}` : "",
    isNumber(high) && holds(sites.maximum) ? `safe to ${powerOfTwo(high)}` : ""].filter(Boolean);
}

const limitTag = (row) => limitsOf(row).map((text) => ` <span class="tag limit">${text}</span>`).join("");

function rowHtml({ row, depth, open }) {
  const cells = COLUMNS.slice(1).map((column) =>
    `<td${column.numeric ? ' class="num"' : ""}>${column.html(row)}</td>`);
  const head = row.sites ? moduleCell(row, open) : siteCell(row);
  return `<tr${row.at_risk ? "" : ' class="dim"'}><th scope="row" class="depth-${Math.min(depth, 6)}">` +
    `${head}</th>${cells.join("")}</tr>`;
}

function headHtml() {
  return COLUMNS.map((column) => {
    const active = state.sort.key === column.key;
    const order = active ? ` aria-sort="${state.sort.descending ? "descending" : "ascending"}"` : "";
    return `<th scope="col"${column.numeric ? ' class="num"' : ""}${order}>` +
      `<button type="button" data-sort="${column.key}">${column.title}</button></th>`;
  }).join("");
}

function drawTable(keys) {
  if (!tableElement) return;
  if ([...SELECTING, "level", "sort"].some((key) => keys.has(key))) visibleRows = FIRST_ROWS;
  if (keys.has("format")) moveRegions(state.format);
  tableElement.dataset.live = "";
  const table = tableElement.querySelector("table");
  table.tHead.rows[0].innerHTML = headHtml();
  const listed = lines();
  table.tBodies[0].innerHTML = listed.slice(0, visibleRows).map(rowHtml).join("");
  describeTable(listed.length);
}

function describeTable(total) {
  const found = state.shown.length;
  const title = `${count(found)} ${found === 1 ? "site" : "sites"}`;
  document.getElementById("site-table-title").textContent =
    state.level ? `${title} in ${count(total)} ${total === 1 ? "row" : "rows"}` : title;
  const more = document.getElementById("more-sites");
  more.hidden = total <= visibleRows;
  more.textContent = `Show ${count(Math.min(MORE_ROWS, total - visibleRows))} more of ${count(total)}`;
  document.getElementById("site-table-note").textContent =
    "Shares of the non-zero finite values as stored in " +
    `${state.format.name.toUpperCase()}; zeros are a share of all values. Riskiest first: overflow, ` +
    "then lost L1 mass, then flushed. Sites that stay in FP32 come last." +
    (state.level ? " A module's row is the sum of its sites that are stored in half precision." : "");
}

function wireTable() {
  if (!tableElement) return;
  tableElement.insertAdjacentHTML("afterend",
    '<button type="button" class="more" id="more-sites" hidden></button>');
  document.getElementById("more-sites").addEventListener("click", () => {
    visibleRows += MORE_ROWS;
    drawTable(new Set());
  });
  tableElement.addEventListener("click", (event) => {
    const key = event.target.closest("[data-sort]")?.dataset.sort;
    const index = event.target.closest("[data-site]")?.dataset.site;
    const number = event.target.closest("[data-fold]")?.dataset.fold;
    if (key) sortBy(key);
    if (index) openSite(state.sites[index]);
    if (number) foldByHand(Number(number));
  });
}

// The button that was pressed is drawn anew; whoever pressed it by keyboard stays on it.
function foldByHand(number) {
  toggleModule(number);
  requestAnimationFrame(() => tableElement.querySelector(`[data-fold="${number}"]`)?.focus());
}

function sortBy(key) {
  const descending = state.sort.key === key ? !state.sort.descending : key !== "order";
  change({ sort: { key, descending } });
  requestAnimationFrame(() => tableElement.querySelector(`[data-sort="${key}"]`).focus());
}
