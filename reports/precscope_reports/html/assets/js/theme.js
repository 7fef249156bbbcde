// The house style of charts, read from the colours of the page, so both themes share one source.
const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const onPaper = () => root.dataset.print !== undefined;
const isNarrow = () => !onPaper() && window.matchMedia("(max-width: 620px)").matches;

// Between the margins of A4 at 96 dots per inch.
const PAPER_WIDTH = 680;

function faded(colour, opacity) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${red},${green},${blue},${opacity})`;
}

function colourScale(variable) {
  const colours = css(variable).split(/\s+/);
  return colours.map((colour, index) => [index / (colours.length - 1), colour]);
}

function axis(overrides = {}) {
  return {
    gridcolor: css("--line"), linecolor: css("--strong-line"), zeroline: false, ticks: "outside",
    tickcolor: css("--strong-line"), ticklen: 4, tickfont: { size: 12, color: css("--quiet") },
    automargin: true, ...overrides,
    title: { font: { size: 12.5, color: css("--quiet") }, standoff: 10, text: overrides.title ?? "" },
  };
}

function layout(overrides = {}) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    ...(onPaper() ? { width: PAPER_WIDTH } : {}),
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: css("--ink") },
    margin: { l: 60, r: 14, t: 14, b: 48 }, showlegend: false, dragmode: "zoom",
    hoverlabel: { bgcolor: css("--surface"), bordercolor: css("--strong-line"), align: "left",
      font: { size: 12.5, color: css("--ink") }, namelength: -1 },
    legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom",
      font: { size: 12.5 }, bgcolor: "rgba(0,0,0,0)", itemwidth: 30 },
    ...overrides,
  };
}

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset" };

function powerTicks(first, last, most) {
  const step = [1, 2, 4, 5, 8, 10, 20, 40].find((size) => (last - first) / size <= most) ?? 80;
  const values = [];
  for (let value = Math.ceil(first / step) * step; value <= last; value += step) values.push(value);
  return { tickvals: values, ticktext: values.map(powerOfTwo) };
}

// Powers of ten for a logarithmic axis that spans the values.
function decadeTicks(low, high) {
  const tickvals = [], ticktext = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
    tickvals.push(10 ** power);
    ticktext.push(power === 0 ? "1" : `10<sup>${String(power).replace("-", "−")}</sup>`);
  }
  return { tickvals, ticktext };
}

// Recipes keep their look from report to report; dashes tell lines apart on paper.
const RECIPE_STYLES = {
  fp32: { colour: "--line-1", width: 2.8 }, advised: { colour: "--line-2", width: 2.4 },
  fp16: { colour: "--line-3" }, bf16: { colour: "--line-4" }, paper: { colour: "--line-7" },
  "paper-no-master": { colour: "--line-5", dash: "dot" },
  "paper-no-scaling": { colour: "--line-6", dash: "dash" },
};
const OTHER_STYLES = [{ colour: "--line-8" }, { colour: "--line-4", dash: "dot" },
  { colour: "--line-5", dash: "dash" }, { colour: "--line-7", dash: "dashdot" }];

function lineOf(run, index) {
  const known = Object.hasOwn(RECIPE_STYLES, run.recipe);
  const style = known ? RECIPE_STYLES[run.recipe] : OTHER_STYLES[index % OTHER_STYLES.length];
  return { color: css(style.colour), width: style.width ?? 1.7, dash: style.dash ?? "solid" };
}

// The four regions of a format on an axis of exponents; `edge` colours the line at its start.
function regions(format) {
  const top = Math.log2(format.max);
  return [
    { key: "flushed", label: "flushed to 0", short: "→0", from: -Infinity, to: format.flush },
    { key: "subnormal", edge: "flushed", label: "subnormal", short: "sub", from: format.flush, to: format.normal },
    { key: "normal", edge: "subnormal", label: "normal", short: "normal", from: format.normal, to: top },
    { key: "overflow", edge: "overflow", label: "overflow", short: "∞", from: top, to: Infinity },
  ];
}

// Shapes and labels that draw the regions behind a chart between two exponents; `most` is how many
// letters fit over the whole width.
function regionMarks(format, first, last, most = 99) {
  const shapes = [], annotations = [];
  for (const region of regions(format)) {
    const from = Math.max(region.from, first), to = Math.min(region.to, last);
    if (from >= to) continue;
    const opacity = region.key === "normal" ? 0 : 0.11;
    shapes.push({ type: "rect", xref: "x", yref: "paper", x0: from, x1: to, y0: 0, y1: 1,
      layer: "below", line: { width: 0 }, fillcolor: faded(css(`--${region.key}`), opacity) });
    if (region.from > first) {
      shapes.push({ type: "line", xref: "x", yref: "paper", x0: from, x1: from, y0: 0, y1: 1,
        line: { width: 1.25, color: css(`--${region.edge}`) } });
    }
    const room = ((to - from) / (last - first)) * most;
    const text = [region.label, region.short].find((label) => label.length <= room);
    if (!text) continue;
    annotations.push({ xref: "x", yref: "paper", x: (from + to) / 2, y: 1, yanchor: "bottom",
      showarrow: false, text, font: { size: 12, color: css(`--${region.key}`) } });
  }
  return { shapes, annotations };
}
