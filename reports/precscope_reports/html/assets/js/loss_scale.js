// What each loss scale loses, with the safe window, and the largest gradient over the run.
const CURVE_FLOOR = 1e-7;
const onLog = (value) => (isNumber(value) ? Math.max(value, CURVE_FLOOR) : null);

const CURVES = [
  { key: "gradient_error", title: "gradient error, worst parameter", colour: "--line-1", width: 3 },
  { key: "l1_lost", title: "L1 mass lost, worst site", colour: "--flushed", width: 2 },
  { key: "count_lost", title: "values flushed", colour: "--subnormal", width: 2, dash: "dot" },
  { key: "overflow", title: "overflow", colour: "--overflow", width: 2, dash: "dash" },
];

function curveTrace(curve) {
  const points = report.loss_scale.curve.filter((point) => isNumber(point[curve.key]));
  return {
    type: "scatter", mode: "lines+markers", name: curve.title, x: points.map((p) => p.log2_scale),
    y: points.map((point) => onLog(point[curve.key])), marker: { size: curve.width + 3 },
    line: { color: css(curve.colour), width: curve.width, dash: curve.dash ?? "solid" },
    customdata: points.map((point) => `${curve.title} at ${powerOfTwo(point.log2_scale)}: ` +
      `${share(point[curve.key])}${curve.key === "gradient_error" && point.worst_parameter
        ? `<br>${escapeHtml(shortened(point.worst_parameter, 60))}` : ""}`),
    hovertemplate: "%{customdata}<extra></extra>",
  };
}

// The safe window as a band, the recommended scale as a line, one label above for both.
function windowMarks(left, right) {
  const { minimum_log2: low, maximum_log2: high, recommended_log2: recommended } = report.loss_scale;
  const shapes = [], labels = [];
  let from = left, to = right;
  if ((isNumber(low) || isNumber(high)) && (low ?? left) <= (high ?? right)) {
    [from, to] = [Math.max(low ?? left, left), Math.min(high ?? right, right)];
    shapes.push({ type: "rect", yref: "paper", x0: from - 0.25, x1: to + 0.25, y0: 0, y1: 1,
      layer: "below", line: { width: 0 }, fillcolor: faded(css("--ok"), 0.12) });
    labels.push("safe window");
  }
  if (isNumber(recommended)) {
    shapes.push({ type: "line", yref: "paper", x0: recommended, x1: recommended, y0: 0, y1: 1,
      line: { color: css("--ok"), width: 2 } });
    labels.push(`recommended ${powerOfTwo(recommended)}`);
  }
  const place = ((isNumber(recommended) ? recommended : (from + to) / 2) - left) / (right - left || 1);
  const annotations = labels.length ? [{ xref: "paper", x: place, xanchor: anchorAt(place), y: 1,
    yref: "paper", yanchor: "bottom", showarrow: false, text: labels.join(", "),
    font: { size: 12, color: css("--ok") } }] : [];
  return { shapes, annotations };
}

const anchorAt = (place) => (place < 0.25 ? "left" : place > 0.75 ? "right" : "center");

function levelTraces(left, right) {
  const { gradient_error_floor: floor, gradient_error_threshold: threshold } = report.loss_scale;
  const level = (value, label, dash) => ({
    type: "scatter", mode: "lines", name: `${label} ${share(value)}`, x: [left, right],
    y: [value, value], line: { color: css("--quiet"), width: 1.3, dash }, hoverinfo: "skip",
  });
  return [level(threshold, "accepted up to", "dash"), level(floor, "rounding alone", "dot")]
    .filter((trace) => isNumber(trace.y[0]) && trace.y[0] > 0);
}

function drawCurve() {
  const element = document.getElementById("scale-curve");
  if (!element) return;
  const scales = report.loss_scale.curve.map((point) => point.log2_scale);
  const [first, last] = [Math.min(...scales), Math.max(...scales)];
  const worst = Math.max(1, ...report.loss_scale.curve.map((point) => point.gradient_error ?? 0));
  const marks = windowMarks(first, last);
  const curves = CURVES.map(curveTrace).filter((trace) => trace.x.length);
  Plotly.react(element, [...curves, ...levelTraces(first - 0.7, last + 0.7)], layout({
    height: isNarrow() ? 480 : 420, showlegend: true, margin: { l: 10, r: 10, t: 30, b: 48 }, ...marks,
    legend: { ...layout().legend, y: 1.09 },
    xaxis: axis({ title: "loss scale", range: [first - 0.7, last + 0.7], showgrid: false,
      ...powerTicks(first, last, isNarrow() ? 6 : 16) }),
    yaxis: axis({ title: "share lost, or error", type: "log", range: [Math.log10(CURVE_FLOOR) - 0.15, Math.log10(worst) + 0.3],
      tickvals: [CURVE_FLOOR, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1],
      ticktext: ["0", "10<sup>−4</sup> %", "0.001 %", "0.01 %", "0.1 %", "1 %", "10 %", "100 %"] }),
  }), CONFIG);
}

function drawTrend() {
  const element = document.getElementById("amax-trend");
  if (!element) return;
  const { amax_trend: trend, recommended_log2: recommended } = report.loss_scale;
  const y = trend.map((point) => point.log2_amax).map((value) => (isNumber(value) ? value : null));
  const finite = y.filter(isNumber), annotations = [], shapes = [];
  const limit = 16 - recommended;
  if (isNumber(recommended) && recommended !== null) {
    shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: limit, y1: limit,
      line: { color: css("--overflow"), width: 1.5, dash: "dash" } });
    annotations.push({ xref: "paper", x: 1, xanchor: "right", y: limit, yanchor: "bottom",
      text: `overflows at the recommended scale above ${powerOfTwo(limit)}`, showarrow: false,
      font: { size: 12, color: css("--overflow") } });
  }
  const all = shapes.length ? [...finite, limit] : finite;
  const [low, high] = all.length ? [Math.min(...all) - 1, Math.max(...all) + 2] : [-1, 1];
  Plotly.react(element, [{ type: "scatter", mode: "lines", x: trend.map((point) => point.step), y,
    line: { color: css("--line-2"), width: 2 },
    customdata: y.map(powerOfTwo), hovertemplate: "step %{x}: %{customdata}<extra></extra>" }],
  layout({ height: 220, shapes, annotations, margin: { l: 10, r: 10, t: 10, b: 44 },
    xaxis: axis({ title: "step", showgrid: false }),
    yaxis: axis({ title: "largest gradient", range: [low, high], ...powerTicks(low, high, 6) }) }), CONFIG);
}
