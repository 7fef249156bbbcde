// The map: sites in execution order against exponents, FP16's regions behind, zeros beside.
const LOWEST_LOG10_SHARE = -6;
const mapElement = document.getElementById("site-map");
let firstColumn = 0;

function exponentSpan(sites) {
  let first = Infinity, last = -Infinity;
  for (const site of sites) {
    const occupied = site.counts.findIndex((count) => count > 0);
    if (occupied < 0) continue;
    first = Math.min(first, site.first_exponent + occupied);
    last = Math.max(last, site.first_exponent + site.counts.length - 1);
  }
  return first > last ? [-30, 18] : [first, last];
}

// Fixed while the slider moves, so that it is the values that move and not the limits.
function mapRange(sites, format) {
  const [first, last] = exponentSpan(sites);
  return [Math.min(format.flush - 8, first - 1), Math.max(format.top + 8, last + 2)];
}

function mapColumns(sites) {
  const [first, last] = exponentSpan(sites);
  const rows = sites.map((site) => {
    const total = site.shares.total;
    const row = new Array(last - first + 1).fill(null);
    site.counts.forEach((count, offset) => {
      if (count) row[site.first_exponent + offset - first] = Math.log10(count / total);
    });
    return row;
  });
  return { first, rows };
}

const hoverOf = (site) => {
  const shares = site.shares;
  const kind = site.sites ? "" : `${KIND_WORDS[site.kind]}, `;
  return `<b>${escapeHtml(shortened(site.name, 64))}</b><br>${kind}` +
    `${escapeHtml(shortened(site.module_type, 40))}${site.at_risk ? "" : ", stays FP32"}<br>` +
    `flushed ${share(shares.flushed)}, L1 lost ${share(shares.l1)}<br>` +
    `overflow ${share(shares.overflow)}, largest ${magnitude(largestOf(site))}`;
};

function mapTraces(sites) {
  const { first, rows } = mapColumns(sites);
  const hover = sites.map(hoverOf);
  firstColumn = first;
  const gap = sites.length > 60 || isNarrow() ? 0 : 1;
  const y = sites.map((_, row) => row);
  const cells = {
    type: "heatmap", z: rows, y, x0: first + 0.5 + mapShift(), dx: 1, zmin: LOWEST_LOG10_SHARE,
    zmax: 0, xgap: gap, ygap: gap, colorscale: colourScale("--scale"),
    showscale: !isNarrow(),
    colorbar: { thickness: 9, len: 0.6, y: 0.5, outlinewidth: 0, ticks: "", x: 1.01, xpad: 4,
      tickvals: [0, -2, -4, -6], ticktext: ["100 %", "1 %", "0.01 %", "≤10<sup>−4</sup> %"],
      tickfont: { size: 11.5, color: css("--quiet") } },
    customdata: rows.map((row, index) => new Array(row.length).fill(hover[index])),
    hovertemplate: "%{customdata}<extra></extra>",
  };
  const strip = (name, values, label) => ({
    type: "heatmap", z: values.map((value) => [value > 0 ? Math.log10(value) : null]), y, x: [label],
    xaxis: "x2", zmin: -4, zmax: 0, ygap: gap, xgap: gap, showscale: false,
    colorscale: colourScale("--zeros"), customdata: values.map((value, row) => [
      `${escapeHtml(shortened(sites[row].name, 64))}<br>${name} ${share(value)} of all values`]),
    hovertemplate: "%{customdata}<extra></extra>",
  });
  const traces = [cells, strip("exact zeros", sites.map((site) => site.zero_fraction ?? 0), "0")];
  if (sites.some((site) => site.infinities || site.nans)) {
    traces.push(strip("infinities and NaNs", sites.map(notFiniteShare), "∞"));
  }
  return traces;
}

function notFiniteShare(site) {
  const odd = site.infinities + site.nans;
  return odd / (site.shares.total + site.zeros + odd);
}

const mapShift = () => (state.rows.some(isGradient) ? state.shift : 0);

function mapLayout(sites, strips) {
  const range = mapRange(sites, state.format);
  const narrow = isNarrow();
  const height = Math.min(760, Math.max(150, sites.length * 19)) + 92;
  const limits = limitMarks(sites);
  const stripEnd = (narrow ? 0.075 : 0.035) * strips;
  const every = Math.max(1, Math.ceil((sites.length * 15) / (height - 92)));
  const near = (row) => [...limits.keys()].some((limit) => limit !== row && Math.abs(limit - row) < every);
  const labelled = sites.map((_, row) => row)
    .filter((row) => limits.has(row) || (row % every === 0 && !near(row)));
  const marks = regionMarks(state.format, range[0], range[1], narrow ? 34 : 110);
  if (!narrow) marks.annotations.push(...limitLabels(limits));
  return layout({
    height, ...marks, margin: { l: 10, r: narrow ? 8 : 10, t: 30, b: 58 },
    xaxis: axis({ domain: [stripEnd + 0.012, 1], range, ...powerTicks(range[0], range[1], narrow ? 6 : 14),
      title: narrow ? "magnitude" : "magnitude of the values, by power of two", showgrid: false }),
    xaxis2: axis({ type: "category", domain: [0, stripEnd], fixedrange: true, showgrid: false, tickangle: 0, ticks: "" }),
    yaxis: axis({ anchor: "x2", range: [sites.length - 0.5, -0.5], showgrid: false, ticks: "", tickvals: labelled,
      ticktext: labelled.map((row) => rowLabel(sites[row].name, limits.has(row), narrow ? 13 : 32)),
      tickfont: { size: 11.5, color: css("--quiet") } }),
  });
}

// The rows that hold a site which sets an end of the safe window, with what to say about them.
function limitMarks(rows) {
  const marks = new Map();
  rows.forEach((row, at) => {
    const limits = limitsOf(row);
    if (limits.length) marks.set(at, limits.join(", "));
  });
  return marks;
}

function rowLabel(name, marked, length) {
  const text = escapeHtml(shortened(name, length));
  return marked ? `<span style="color:${css("--ok")}"><b>${text}</b></span>` : text;
}

const limitLabels = (limits) => Array.from(limits, ([row, text]) => ({
  xref: "paper", x: 1, xanchor: "right", yref: "y", y: row, showarrow: false, text,
  font: { size: 11.5, color: css("--ok") }, bgcolor: css("--page"), opacity: 0.9, borderpad: 1,
}));

function drawMap(keys) {
  if (!mapElement) return;
  const redraw = !keys || [...SELECTING, "level", "toggled", "format"].some((key) => keys.has(key));
  if (redraw) redrawMap();
  else if (keys.has("shift")) moveMap();
}

function redrawMap() {
  clearTimeout(restTimer);
  if (!state.rows.length) {
    Plotly.purge(mapElement);
    delete mapElement.dataset.wired; // purging takes the listeners along
    mapElement.textContent = "No site matches.";
    mapElement.classList.add("nothing");
    return;
  }
  if (mapElement.classList.contains("nothing")) {
    mapElement.classList.remove("nothing");
    mapElement.textContent = "";
  }
  const traces = mapTraces(state.rows);
  Plotly.react(mapElement, traces, mapLayout(state.rows, traces.length - 1), CONFIG);
  slideCells(0);
  if (mapElement.dataset.wired) return;
  mapElement.dataset.wired = "yes";
  mapElement.on("plotly_click", (event) => openRow(state.rows[event.points[0].y]));
}

// While the slider moves, the drawn cells are slid over their place; when it rests they are drawn.
const REST_MS = 140;
let restTimer = 0;

function moveMap() {
  const cells = mapElement.data?.[0];
  if (!cells) return;
  slideCells(firstColumn + 0.5 + mapShift() - cells.x0);
  clearTimeout(restTimer);
  restTimer = setTimeout(settleMap, REST_MS);
}

function slideCells(exponents) {
  const { _length: width, range } = mapElement._fullLayout.xaxis;
  const pixels = (exponents * width) / (range[1] - range[0]);
  mapElement.querySelector(".subplot.xy .heatmaplayer")
    ?.setAttribute("transform", pixels ? `translate(${pixels},0)` : "");
}

function settleMap() {
  clearTimeout(restTimer);
  const cells = mapElement.data?.[0];
  if (!cells) return;
  const hover = state.rows.map(hoverOf);
  cells.customdata = cells.z.map((row, index) => new Array(row.length).fill(hover[index]));
  Plotly.restyle(mapElement, { x0: firstColumn + 0.5 + mapShift() }, [0]);
  slideCells(0);
}

function openRow(row) {
  if (row?.sites) toggleModule(row.number);
  else openSite(row);
}
