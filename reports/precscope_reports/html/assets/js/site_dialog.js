// One site: its histogram as in the paper (zeros in a bin of their own), and how it changed.
const dialog = document.getElementById("site-dialog");
let openIndex = null;

function siteFacts(site) {
  const shares = site.shares;
  return `<dl class="facts">` + [
    fact("Kind", KIND_WORDS[site.kind]),
    fact("Module", escapeHtml(site.module_type)),
    fact("Shape", site.shape.length ? site.shape.map(count).join(" × ") : "scalar"),
    fact("Recorded as", escapeHtml(site.dtype)),
    fact("Under autocast", escapeHtml(site.autocast_dtype ?? `${DASH} (not measured)`)),
    fact("Tensors counted", count(site.observations)),
    fact("Largest", magnitude(site.amax)), fact("Root mean square", magnitude(site.rms)),
    fact("Flushed", share(shares.flushed)), fact("L1 lost", share(shares.l1)),
    fact("Subnormal", share(shares.subnormal)), fact("Overflow", share(shares.overflow)),
    fact("Exact zeros", share(site.zero_fraction)),
    fact("Infinities, NaNs", `${count(site.infinities)}, ${count(site.nans)}`),
  ].join("") + "</dl>";
}

function dialogHtml(site) {
  const scaled = shiftOf(site) ? ` after a loss scale of ${powerOfTwo(shiftOf(site))}` : "";
  const evolution = site.windows.first_step.length > 1
    ? '<h3 class="sub">Over the run</h3><div class="chart" id="site-windows" role="img" ' +
      'aria-label="Largest value and flushed share over the steps"></div>' : "";
  return `<header><h2 id="site-dialog-title" class="name">${nameHtml(site.name)}</h2>` +
    '<div class="buttons"><button type="button" data-go="-1">Previous</button>' +
    '<button type="button" data-go="1">Next</button>' +
    '<button type="button" data-go="close" autofocus>Close</button></div></header>' +
    '<div class="chart" id="site-histogram" role="img" aria-label="Histogram by power of two"></div>' +
    `<p class="note">Share of all values per power of two, logarithmic${scaled}; exact zeros in the grey bar.</p>` +
    siteFacts(site) + evolution + elsewhere(site);
}

function openSite(site) {
  if (!site) return;
  openIndex = site.index;
  site.shares ??= sharesOf(site, state.format, shiftOf(site));
  for (const chart of dialog.querySelectorAll(".chart")) Plotly.purge(chart);
  dialog.innerHTML = dialogHtml(site);
  if (!dialog.open) dialog.showModal();
  drawHistogram(site);
  if (site.windows.first_step.length > 1) drawWindows(site);
}

function drawHistogram(site) {
  const shift = shiftOf(site);
  const all = site.shares.total + site.zeros + site.infinities + site.nans;
  const [first, last] = exponentSpan([site]).map((exponent) => exponent + shift);
  const low = Math.min(first, state.format.flush - 3), high = Math.max(last + 1, state.format.top + 3);
  const bars = regions(state.format).map((region) => barsOf(site, region, shift, all));
  bars.push({ type: "bar", x: [low - 3], y: [site.zeros / all || null], width: 1.6,
    marker: { color: css("--quiet") }, hovertemplate: `exact zeros ${share(site.zeros / all)}<extra></extra>` });
  const ticks = powerTicks(low, high, isNarrow() ? 5 : 12);
  const marks = regionMarks(state.format, low - 1, high, isNarrow() ? 34 : 95);
  plotInDialog("site-histogram", bars, layout({
    height: 280, ...marks, bargap: 0.1, barmode: "overlay", margin: { l: 10, r: 8, t: 26, b: 40 },
    xaxis: axis({ range: [low - 4.2, high], showgrid: false, tickangle: 0, tickvals: [low - 3, ...ticks.tickvals],
      ticktext: ["0", ...ticks.ticktext] }),
    yaxis: axis({ type: "log", range: [-7, 0.1], tickvals: [1e-6, 1e-4, 1e-2, 1],
      ticktext: ["10<sup>−4</sup> %", "0.01 %", "1 %", "100 %"] }),
  }));
}

// Whoever walks the sites quickly leaves a chart before it is drawn to its end.
function plotInDialog(id, traces, settings) {
  const element = document.getElementById(id);
  Plotly.newPlot(element, traces, settings, CONFIG).catch((error) => {
    if (element.isConnected) recordError(error);
  });
}

// A bar belongs to the region of its lower edge.
function barsOf(site, region, shift, all) {
  const x = [], y = [], customdata = [];
  const top = region.key === "normal" ? state.format.top + 1 : region.to;
  const bottom = region.key === "overflow" ? state.format.top + 1 : region.from;
  site.counts.forEach((values, offset) => {
    const exponent = site.first_exponent + offset + shift;
    if (!values || exponent < bottom || exponent >= top) return;
    x.push(exponent + 0.5);
    y.push(values / all);
    customdata.push(`${powerOfTwo(exponent)} to ${powerOfTwo(exponent + 1)}: ${share(values / all)}, ` +
      `${count(values)} values`);
  });
  return { type: "bar", x, y, customdata, marker: { color: css(`--${region.key}`) },
    hovertemplate: "%{customdata}<extra></extra>" };
}

function drawWindows(site) {
  const windows = site.windows;
  const amax = windows.amax.map((value) => (value > 0 ? Math.log2(value) : null));
  const finite = amax.filter(isNumber);
  const ends = finite.length ? [Math.floor(Math.min(...finite)) - 1, Math.ceil(Math.max(...finite)) + 1] : null;
  const ticks = ends ? { range: ends, ...powerTicks(...ends, 5) } : {};
  const percent = windows.flushed.map((value) => (isNumber(value) ? 100 * value : null));
  const steps = (index) => `steps ${windows.first_step[index]} to ${windows.last_step[index]}`;
  const trace = (y, title, colour, yaxis, format) => ({
    type: "scatter", mode: "lines+markers", x: windows.last_step, y, name: title, yaxis,
    line: { color: css(colour), width: 2 }, marker: { size: 5 },
    customdata: y.map((value, index) => `${steps(index)}<br>${title} ${format(value)}`),
    hovertemplate: "%{customdata}<extra></extra>",
  });
  plotInDialog("site-windows", [
    trace(amax, "largest", "--line-2", "y", powerOfTwo),
    trace(percent, "flushed in FP16, unscaled", "--flushed", "y2", (value) => share(value / 100)),
  ], layout({ height: 220, showlegend: true, margin: { l: 10, r: 10, t: 30, b: 40 },
    xaxis: axis({ title: "step" }), yaxis: axis({ ...ticks }),
    yaxis2: axis({ overlaying: "y", side: "right", tickformat: "~g", ticksuffix: " %", tickmode: "auto", nticks: 4, showgrid: false,
      rangemode: "tozero" }) }));
}

function wireDialog() {
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && !event.target.closest(".scroll")) step(by);
  });
  dialog.addEventListener("click", (event) => {
    const go = event.target.closest("[data-go]")?.dataset.go;
    if (event.target === dialog || go === "close") dialog.close();
    else if (go) step(Number(go));
  });
}

function step(by) {
  const order = sorted();
  const at = order.findIndex((site) => site.index === openIndex);
  openSite(order[(at + by + order.length) % order.length]);
  dialog.querySelector(`[data-go="${by}"]`).focus();
}
