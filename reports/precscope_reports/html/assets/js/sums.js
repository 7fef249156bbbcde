// Measured error of every sum against its length, beside what rounding alone predicts.
const SUM_STYLES = [
  { verdict: "fp32_required", title: "FP32 required", colour: "--flushed", symbol: "square" },
  { verdict: "fp32_advised", title: "FP32 advised", colour: "--subnormal", symbol: "diamond" },
  { verdict: "fp16_ok", title: "FP16 is enough", colour: "--line-2", symbol: "circle" },
];
const UNIT_ROUNDOFF = 2 ** -11;

function sumTrace(sums, style) {
  const own = sums.filter((sum) => sum.verdict === style.verdict);
  return {
    type: "scatter", mode: "markers", name: style.title, x: own.map((sum) => sum.length),
    y: own.map((sum) => sum.error_fp16),
    marker: { size: 10, symbol: style.symbol, color: css(style.colour),
      line: { width: 1, color: css("--page") } },
    customdata: own.map((sum) => `<b>${escapeHtml(shortened(sum.site, 50))}</b> ` +
      `${escapeHtml(shortened(sum.operation, 50))}<br>${count(sum.length)} terms, ` +
      `${count(sum.block)} at once<br>measured ${relative(sum.error_fp16)}, ` +
      `expected ${relative(sum.expected_error)}, formula ${relative(sum.predicted_error)}`),
    hovertemplate: "%{customdata}<extra></extra>",
  };
}

// A stem leads from what the partial sums let expect to what was measured.
function expectedTraces(sums) {
  const known = sums.filter((sum) => isNumber(sum.expected_error) && sum.expected_error > 0);
  const stems = { type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false,
    x: known.flatMap((sum) => [sum.length, sum.length, null]),
    y: known.flatMap((sum) => [sum.expected_error, sum.error_fp16, null]),
    line: { width: 1, color: css("--quiet") } };
  const marks = { type: "scatter", mode: "markers", name: "expected of that sum", hoverinfo: "skip",
    x: known.map((sum) => sum.length), y: known.map((sum) => sum.expected_error),
    marker: { size: 9, symbol: "circle-open", color: css("--quiet"), line: { width: 1.4 } } };
  return [stems, marks];
}

function predictedTrace(sums, atOnce) {
  const own = sums.filter((sum) => (sum.block ?? 1) === atOnce).map((sum) => sum.length);
  if (!own.length) return null;
  const low = own.reduce((a, b) => Math.min(a, b)), high = own.reduce((a, b) => Math.max(a, b));
  const x = [Math.max(1, low / 2), high * 2];
  return { type: "scatter", mode: "lines", name: `predicted, ${atOnce} at once`, x, hoverinfo: "skip",
    y: x.map((terms) => Math.sqrt(terms / atOnce) * UNIT_ROUNDOFF),
    line: { width: 1.6, color: css("--ink"), dash: atOnce === 1 ? "dash" : "dot" } };
}

function drawSums() {
  const element = document.getElementById("sum-errors");
  if (!element) return;
  const sums = report.sums.filter((sum) => isNumber(sum.error_fp16) && sum.error_fp16 > 0 && sum.length > 0);
  const sizes = [...new Set(sums.map((sum) => sum.block ?? 1))];
  const traces = [...sizes.map((atOnce) => predictedTrace(sums, atOnce)).filter(Boolean),
    ...expectedTraces(sums), ...SUM_STYLES.map((style) => sumTrace(sums, style)).filter((t) => t.x.length)];
  const lengths = sums.map((sum) => Math.log2(sum.length));
  const [low, high] = lengths.length ? [lengths.reduce((a, b) => Math.min(a, b)) - 1,
    lengths.reduce((a, b) => Math.max(a, b)) + 1] : [0, 10];
  const errors = sums.flatMap((sum) => [sum.error_fp16, sum.expected_error]).filter((error) => error > 0)
    .map(Math.log10);
  const [least, most] = errors.length ? [errors.reduce((a, b) => Math.min(a, b)) - 0.3,
    errors.reduce((a, b) => Math.max(a, b)) + 0.3] : [-4, 0];
  const ticks = powerTicks(low, high, isNarrow() ? 5 : 12);
  Plotly.react(element, traces, layout({
    height: isNarrow() ? 440 : 380, showlegend: true, margin: { l: 10, r: 10, t: 34, b: 48 },
    xaxis: axis({ title: "terms in the sum", type: "log", showgrid: false,
      range: [low * Math.log10(2), high * Math.log10(2)],
      tickvals: ticks.tickvals.map((power) => 2 ** power), ticktext: ticks.ticktext }),
    yaxis: axis({ title: isNarrow() ? "" : "relative error in FP16", type: "log", range: [least, most],
      ...decadeTicks(least, most) }),
  }), CONFIG);
}
