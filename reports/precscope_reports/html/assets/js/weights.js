// How much of each parameter's update FP16 weights keep, now and after learning rate decay.
const MOST_PARAMETERS = 40;
const FACTORS = [
  { key: "retention", title: "this update", symbol: "circle", colour: "--line-2", size: 11 },
  { key: "retention_0_1", title: "a tenth of it", symbol: "diamond", colour: "--line-6", size: 9 },
  { key: "retention_0_01", title: "a hundredth of it", symbol: "triangle-up", colour: "--line-3", size: 9 },
];

// 1 for what a half precision run leaves in FP32, which is listed last.
const stays = (parameter) => (parameter.verdict === "stays_fp32" ? 1 : 0);

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
      tickformat: ".0%", side: "bottom" }),
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
