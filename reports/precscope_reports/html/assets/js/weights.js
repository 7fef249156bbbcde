// How much of each parameter's update FP16 weights keep, now and after learning rate decay.
const MOST_PARAMETERS = 40;
const FACTORS = [
  { key: "retention", title: "this update", symbol: "circle", colour: "--line-2", size: 11 },
  { key: "retention_0_1", title: "a tenth of it", symbol: "diamond", colour: "--line-6", size: 9 },
  { key: "retention_0_01", title: "a hundredth of it", symbol: "triangle-up", colour: "--line-3", size: 9 },
];

const PERCENT_TICKS = { tickvals: [0, 0.2, 0.4, 0.6, 0.8, 1],
  ticktext: ["0", "20 %", "40 %", "60 %", "80 %", "100 %"] };

// 1 for what a half precision run leaves in FP32, which is listed last.
const stays = (parameter) => (parameter.verdict === "stays_fp32" || parameter.is_noise ? 1 : 0);

function drawRetention() {
  const element = document.getElementById("retention");
  if (!element) return;
  const worst = report.parameters.filter((parameter) => FACTORS.some(({ key }) => isNumber(parameter[key])))
    .sort((a, b) => stays(a) - stays(b) || (a.retention ?? 2) - (b.retention ?? 2)).slice(0, MOST_PARAMETERS);
  const y = worst.map((_, row) => row);
  const narrow = isNarrow();
  Plotly.react(element, FACTORS.map((factor) => factorTrace(factor, worst, y)), layout({
    height: worst.length * 21 + 110, showlegend: true, margin: { l: 10, r: 14, t: 34, b: 48 },
    shapes: [{ type: "line", yref: "paper", x0: 1, x1: 1, y0: 0, y1: 1,
      line: { color: css("--ok"), width: 1.5, dash: "dot" } }],
    xaxis: axis({ title: "part of the update that FP16 weights keep", range: [-0.04, 1.12],
      ...PERCENT_TICKS, side: "bottom" }),
    yaxis: axis({ range: [worst.length - 0.4, -0.6], tickvals: y, ticks: "",
      ticktext: worst.map((parameter) => escapeHtml(shortened(parameter.name, narrow ? 15 : 38))),
      tickfont: { size: 11.5, color: css("--quiet") } }),
  }), CONFIG);
}

function factorTrace(factor, parameters, y) {
  return {
    type: "scatter", mode: "markers", name: factor.title, y,
    x: parameters.map((parameter) => parameter[factor.key]).map((value) => (isNumber(value) ? value : null)),
    marker: { symbol: factor.symbol, size: factor.size, color: css(factor.colour) },
    customdata: parameters.map((parameter) => `${escapeHtml(shortened(parameter.name, 64))}<br>` +
      `${factor.title}: ${share(parameter[factor.key])} kept`),
    hovertemplate: "%{customdata}<extra></extra>",
  };
}

// A line per parameter from the run's learning rate down to a hundredth of it; the worst named.
const NAMED_LINES = 6;

function drawRates() {
  const element = document.getElementById("retention-rates");
  if (!element) return;
  const drawn = report.parameters.filter((parameter) => isNumber(parameter.learning_rate)
    && parameter.learning_rate > 0 && !stays(parameter) && isNumber(parameter.retention))
    .sort((a, b) => a.retention - b.retention);
  const rates = drawn.map((parameter) => Math.log10(parameter.learning_rate));
  const [low, high] = rates.length ? [rates.reduce((a, b) => Math.min(a, b)) - 2.15,
    rates.reduce((a, b) => Math.max(a, b)) + 0.15] : [-5, -2];
  Plotly.react(element, drawn.slice(0, 300).map(rateTrace), layout({
    height: isNarrow() ? 400 : 320, showlegend: true, margin: { l: 10, r: 14, t: 34, b: 48 },
    shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1,
      line: { color: css("--ok"), width: 1.5, dash: "dot" } }],
    xaxis: axis({ title: "learning rate", type: "log", range: [low, high],
      ...decadeTicks(low, high), showgrid: false }),
    yaxis: axis({ title: isNarrow() ? "" : "part of the update kept", range: [-0.04, 1.12], ...PERCENT_TICKS }),
  }), CONFIG);
}

function rateTrace(parameter, index) {
  const points = [[1, parameter.retention], [0.1, parameter.retention_0_1], [0.01, parameter.retention_0_01]]
    .filter(([, kept]) => isNumber(kept));
  const named = index < NAMED_LINES;
  const colour = css(named ? `--line-${index + 2}` : "--quiet");
  return {
    type: "scatter", mode: "lines+markers", name: escapeHtml(shortened(parameter.name, 30)),
    showlegend: named, x: points.map(([factor]) => factor * parameter.learning_rate),
    y: points.map(([, kept]) => kept), opacity: named ? 1 : 0.45,
    line: { color: colour, width: named ? 2 : 1, dash: ["solid", "dash", "dot", "dashdot"][index % 4] },
    marker: { size: named ? 7 : 4, symbol: ["circle", "square", "diamond", "triangle-up", "x", "cross"][index % 6] },
    customdata: points.map(([factor, kept]) => `${escapeHtml(shortened(parameter.name, 64))}<br>learning rate ` +
      `${(factor * parameter.learning_rate).toPrecision(2)}: ${share(kept)} kept`),
    hovertemplate: "%{customdata}<extra></extra>",
  };
}
