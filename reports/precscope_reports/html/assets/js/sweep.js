// Dose and response: gradient error above, final loss below, both against the static loss scale.
const SWEEP_ERRORS = [
  { key: "gradient_error_all", title: "gradient error, all parameters", colour: "--line-1", width: 3 },
  { key: "gradient_error", title: "gradient error, worst parameter", colour: "--line-3", width: 1.8,
    dash: "dot" },
];

function sweepErrorTrace(sweep, curve) {
  return {
    type: "scatter", mode: "lines+markers", name: curve.title, x: sweep.log2_scale,
    y: sweep[curve.key].map((value) => (isNumber(value) && value > 0 ? value : null)),
    marker: { size: 6 }, line: { color: css(curve.colour), width: curve.width, dash: curve.dash ?? "solid" },
    customdata: sweep.log2_scale.map((k, at) => `${curve.title} at ${powerOfTwo(k)}: ` +
      `${share(sweep[curve.key][at])}${curve.key === "gradient_error" && sweep.worst_parameter[at]
        ? `<br>${escapeHtml(shortened(sweep.worst_parameter[at], 60))}` : ""}`),
    hovertemplate: "%{customdata}<extra></extra>",
  };
}

// Runs that skipped every step or diverged would flatten the others: the axis ends above the calm.
function sweepLossRange(sweep) {
  const calm = sweep.final_loss.filter((loss, at) => isNumber(loss) && sweep.works[at]);
  const all = sweep.final_loss.filter(isNumber);
  const seen = [...(calm.length ? calm : all), sweep.fp32_final_loss].filter(isNumber);
  if (!seen.length) return [0, 1];
  const low = Math.min(...seen), high = Math.max(...seen);
  const room = Math.max(high - low, 0.05 * Math.abs(high), 1e-6);
  return [low - 0.5 * room, Math.min(Math.max(...all, high), high + 4 * room) + 0.5 * room];
}

function sweepLossTrace(sweep, range) {
  const colours = sweep.works.map((works) => css(works === false ? "--critical" : "--line-2"));
  return {
    type: "scatter", mode: "lines+markers", name: "final loss", yaxis: "y2", x: sweep.log2_scale,
    y: sweep.final_loss.map((loss) => (isNumber(loss) ? Math.min(loss, range[1]) : range[1])),
    line: { color: css("--line-2"), width: 2.4 }, cliponaxis: false,
    marker: { size: 9, color: colours,
      symbol: sweep.final_loss.map((loss) => (isNumber(loss) && loss <= range[1] ? "circle" : "triangle-up")) },
    customdata: sweep.final_loss.map((loss, at) => isNumber(sweep.diverged_at[at])
      ? `diverged at step ${sweep.diverged_at[at]}`
      : `final loss ${isNumber(loss) ? loss.toPrecision(4) : DASH}, ${count(sweep.skipped_steps[at])} steps skipped`),
    hovertemplate: "%{customdata}<extra></extra>",
  };
}

function sweepLevel(sweep, value, name, axisName, colour) {
  const ends = [Math.min(...sweep.log2_scale) - 0.7, Math.max(...sweep.log2_scale) + 0.7];
  return { type: "scatter", mode: "lines", name, x: ends, y: [value, value], yaxis: axisName,
    hoverinfo: "skip", line: { color: css(colour), width: 1.3, dash: "dash" } };
}

function sweepBand(sweep) {
  if (!sweep.working) return [];
  return [{ type: "rect", yref: "paper", x0: sweep.working[0] - 0.4, x1: sweep.working[1] + 0.4, y0: 0,
    y1: 1, layer: "below", line: { width: 0 }, fillcolor: faded(css("--ok"), 0.12) }];
}

function drawSweep() {
  const element = document.getElementById("sweep-chart");
  const { sweep } = report;
  if (!element || !sweep) return;
  const [first, last] = [Math.min(...sweep.log2_scale), Math.max(...sweep.log2_scale)];
  const range = sweepLossRange(sweep);
  const traces = [...SWEEP_ERRORS.map((curve) => sweepErrorTrace(sweep, curve)), sweepLossTrace(sweep, range)];
  if (isNumber(sweep.floor) && sweep.floor > 0) {
    traces.push(sweepLevel(sweep, sweep.floor, "rounding alone", "y", "--quiet"));
  }
  if (isNumber(sweep.fp32_final_loss)) {
    traces.push(sweepLevel(sweep, sweep.fp32_final_loss, "final loss of fp32", "y2", "--line-1"));
  }
  Plotly.react(element, traces, layout({
    height: 480, showlegend: true, margin: { l: 10, r: 10, t: 30, b: 48 }, shapes: sweepBand(sweep),
    xaxis: axis({ title: "static loss scale", range: [first - 0.7, last + 0.7], showgrid: false,
      anchor: "y2", ...powerTicks(first, last, isNarrow() ? 6 : 16) }),
    yaxis: axis({ title: "gradient error", type: "log", domain: [0.52, 1],
      tickvals: [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100],
      ticktext: ["0.001 %", "0.01 %", "0.1 %", "1 %", "10 %", "100 %", "10×", "100×"] }),
    yaxis2: axis({ title: "final loss", domain: [0, 0.44], range }),
  }), CONFIG);
}
